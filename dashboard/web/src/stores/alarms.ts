/** The live alarms, as the server tells them. */

import { defineStore } from 'pinia'
import { computed, ref, shallowRef } from 'vue'
import { api, newKey } from '@/api/client'
import type { Alarm, Priority } from '@/api/types'

export const isUnacked = (alarm: Pick<Alarm, 'state'>): boolean =>
  alarm.state === 'UNACK' || alarm.state === 'RTNUN' || alarm.state === 'LUNACK'

/** Shelved, suppressed by design or out of service: it does not sound and is no news. */
export const isHidden = (alarm: Pick<Alarm, 'state'>): boolean =>
  alarm.state === 'SHLVD' || alarm.state === 'DSUPR' || alarm.state === 'OOSRV'

/** Priority, then unacknowledged first, then newest; the id makes the order total. */
export function byUrgency(a: Alarm, b: Alarm): number {
  return (
    a.priority - b.priority ||
    Number(isUnacked(b)) - Number(isUnacked(a)) ||
    b.raised_ms - a.raised_ms ||
    (a.id < b.id ? -1 : 1)
  )
}

export const useAlarms = defineStore('alarms', () => {
  const live = shallowRef<ReadonlyMap<string, Alarm>>(new Map())
  const selectedId = ref<string | null>(null)
  const isBusy = ref(false)
  /** The alarm that returned last while this page watched, for the quiet line. */
  const lastReturned = shallowRef<Alarm | null>(null)

  const sorted = computed(() => [...live.value.values()].filter((a) => !isHidden(a)).sort(byUrgency))
  const hidden = computed(() => [...live.value.values()].filter(isHidden).sort(byUrgency))
  const unacked = computed(() => sorted.value.filter(isUnacked))
  const counts = computed(() => {
    const by: Record<Priority, number> = { 1: 0, 2: 0, 3: 0, 4: 0 }
    for (const alarm of sorted.value) by[alarm.priority]++
    return by
  })
  const selected = computed(() => (selectedId.value === null ? undefined : live.value.get(selectedId.value)))
  /** The one alarm that deserves the banner: the most urgent unacknowledged one, else the most urgent. */
  const top = computed(() => {
    const head = sorted.value[0]
    const open = unacked.value[0]
    return open && head && open.priority <= head.priority ? open : head
  })
  const byEquipment = computed(() => {
    const map = new Map<string, Alarm[]>()
    for (const alarm of sorted.value) {
      const list = map.get(alarm.equipment)
      if (list) list.push(alarm)
      else map.set(alarm.equipment, [alarm])
    }
    return map
  })

  function replace(alarms: readonly Alarm[]): void {
    live.value = new Map(alarms.filter((a) => a.state !== 'NORM').map((a) => [a.id, a]))
  }

  function change(alarms: readonly Alarm[]): void {
    if (alarms.length === 0) return
    const next = new Map(live.value)
    for (const alarm of alarms) {
      if (alarm.state === 'NORM') {
        if (next.delete(alarm.id)) lastReturned.value = alarm
      } else next.set(alarm.id, alarm)
    }
    live.value = next
  }

  /** Acknowledge one occurrence. The server refuses an older one; the change then comes over the live connection. */
  async function acknowledge(id: string, comment?: string): Promise<void> {
    isBusy.value = true
    try {
      change([await api.post<Alarm>(`/alarms/${encodeURIComponent(id)}/ack`, comment ? { comment } : {}, newKey())])
    } finally {
      isBusy.value = false
    }
  }

  async function reset(id: string): Promise<void> {
    change([await api.post<Alarm>(`/alarms/${encodeURIComponent(id)}/reset`, {}, newKey())])
  }

  const send = async (id: string, what: string, body: object): Promise<void> =>
    change([await api.post<Alarm>(`/alarms/${encodeURIComponent(id)}/${what}`, body, newKey())])
  const shelve = (id: string, minutes: number | null, reason: string): Promise<void> =>
    send(id, 'shelve', minutes === null ? { mode: 'once', reason } : { mode: 'timed', minutes, reason })
  const takeOut = (id: string, permit: string, reason: string): Promise<void> => send(id, 'out', { permit, reason })
  const uncover = (id: string, what: 'unshelve' | 'return'): Promise<void> => send(id, what, {})

  /** Acknowledge what is ticked; resolves with how many were refused. */
  async function acknowledgeSeveral(ids: string[]): Promise<number> {
    isBusy.value = true
    try {
      const reply = await api.post<{ outcomes: Record<string, string>; items: Alarm[] }>('/alarms/ack', { ids }, newKey())
      change(reply.items)
      return Object.values(reply.outcomes).filter((code) => code !== 'done' && code !== 'pending').length
    } finally {
      isBusy.value = false
    }
  }

  return { live, hidden, shelve, takeOut, uncover, acknowledgeSeveral, selectedId, isBusy, lastReturned, sorted, unacked, counts, selected, top, byEquipment, replace, change, acknowledge, reset }
})
