/** The feed of card and face readers: a ring, newest first. */

import { defineStore } from 'pinia'
import { shallowRef } from 'vue'
import type { AccessEvent } from '@/api/types'

export const RING = 200

export const useAccess = defineStore('access', () => {
  const events = shallowRef<AccessEvent[]>([])

  function add(fresh: readonly AccessEvent[]): void {
    if (fresh.length === 0) return
    const bySeq = new Map(events.value.map((event) => [event.seq, event]))
    for (const event of fresh) bySeq.set(event.seq, event)
    events.value = [...bySeq.values()].sort((a, b) => b.time_ms - a.time_ms || b.seq - a.seq).slice(0, RING)
  }

  return { events, add }
})
