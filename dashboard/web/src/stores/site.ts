/** What the compound consists of. Loaded once after sign-in. */

import { defineStore } from 'pinia'
import { computed, shallowRef } from 'vue'
import { api } from '@/api/client'
import type { Alarm, Equipment, Page, Person, Place, SignalInfo, Site } from '@/api/types'

const SCENARIOS_MS = 3_000

export const useSite = defineStore('site', () => {
  const site = shallowRef<Site | null>(null)
  const equipment = shallowRef<Equipment[]>([])
  const people = shallowRef<Person[]>([])
  const byId = computed(() => new Map(equipment.value.map((item) => [item.id, item])))
  const signals = computed(() => {
    const map = new Map<string, SignalInfo>()
    for (const item of equipment.value) for (const signal of item.signals) map.set(signal.key, signal)
    return map
  })
  const zone = computed(() => site.value?.zone ?? 'Asia/Shanghai')

  async function load(): Promise<void> {
    const [about, items, staff] = await Promise.all([
      api.get<Site>('/site'),
      all<Equipment>('/equipment'),
      all<Person>('/people').catch(() => []),
    ])
    site.value = about
    equipment.value = items
    people.value = staff
    void awaitScenarios()
  }

  /** The simulators start after the page: a demo without anything to play asks again until they are there. */
  async function awaitScenarios(): Promise<void> {
    while (site.value?.demo?.scenarios.length === 0) {
      await new Promise((done) => setTimeout(done, SCENARIOS_MS))
      const about = await api.get<Site>('/site').catch(() => null)
      if (about?.demo && site.value) site.value = { ...site.value, demo: about.demo }
    }
  }

  const ofType = (type: string): Equipment[] => equipment.value.filter((item) => item.type === type)

  /** The place itself or the nearest parent of a kind. */
  function placeOf(id: string | null, kind?: string): [string, Place] | null {
    let here = id
    while (here !== null && here !== undefined) {
      const place: Place | undefined = site.value?.places[here]
      if (!place) return null
      if (kind === undefined || place.kind === kind) return [here, place]
      here = place.in ?? null
    }
    return null
  }

  /** Where an alarm burns: for a zone of a fire panel the zone's house, else the equipment's place. */
  function placeOfAlarm(alarm: Pick<Alarm, 'equipment' | 'signal' | 'instance' | 'place'>): string | null {
    const item = byId.value.get(alarm.equipment)
    const zones = item?.extra['zone_places']
    const zone = /zone(\d+)_state/.exec(alarm.signal ?? '')?.[1] ?? (/^(?:zone)?(\d+)$/.exec(alarm.instance))?.[1]
    if (Array.isArray(zones) && zone !== undefined) {
      const place: unknown = zones[Number(zone) - 1]
      if (typeof place === 'string') return place
    }
    return item?.place ?? alarm.place
  }

  return { placeOfAlarm, site, equipment, people, byId, signals, zone, load, ofType, placeOf }
})

async function all<T>(path: string): Promise<T[]> {
  const items: T[] = []
  let cursor: string | undefined
  do {
    const page: Page<T> = await api.get<Page<T>>(path, { limit: 500, cursor })
    items.push(...page.items)
    cursor = page.next ?? undefined
  } while (cursor !== undefined)
  return items
}
