/** Open tickets, and those closed since midnight as far as this page knows them. */

import { defineStore } from 'pinia'
import { computed, shallowRef } from 'vue'
import { api, newKey } from '@/api/client'
import type { Page, StepFields, Ticket, TicketState, TicketStep } from '@/api/types'

export const isOpen = (state: TicketState): boolean => state !== 'CLOSED' && state !== 'CANCELLED'

export const useTickets = defineStore('tickets', () => {
  const known = shallowRef<ReadonlyMap<string, Ticket>>(new Map())
  const all = computed(() => [...known.value.values()].sort(byNeed))
  const open = computed(() => all.value.filter((ticket) => isOpen(ticket.state)))

  function replace(tickets: readonly Ticket[]): void {
    const kept = [...known.value.values()].filter((ticket) => !isOpen(ticket.state))
    known.value = new Map([...kept, ...tickets].map((ticket) => [ticket.id, ticket]))
  }

  function change(tickets: readonly Ticket[]): void {
    if (tickets.length === 0) return
    const next = new Map(known.value)
    for (const ticket of tickets) {
      const before = next.get(ticket.id)
      if (!before || before.version <= ticket.version) next.set(ticket.id, merge(before, ticket))
    }
    known.value = next
  }

  async function loadClosed(): Promise<void> {
    change((await api.get<Page<Ticket>>('/tickets', { view: 'closed', limit: 60 })).items)
  }

  async function load(id: string): Promise<Ticket> {
    const ticket = await api.get<Ticket>(`/tickets/${encodeURIComponent(id)}`)
    change([ticket])
    return ticket
  }

  async function step(ticket: Ticket, step: TicketStep, fields: StepFields = {}): Promise<Ticket> {
    const path = `/tickets/${encodeURIComponent(ticket.id)}/${step}`
    const after = await api.post<Ticket>(path, { version: ticket.version, ...fields }, newKey())
    change([after])
    return after
  }

  return { known, all, open, replace, change, loadClosed, load, step }
})

/** A list item has no history; keep the one we have. The steps of a pushed ticket are not for this user. */
function merge(before: Ticket | undefined, after: Ticket): Ticket {
  return before?.events && !after.events ? { ...after, events: before.events } : after
}

function byNeed(a: Ticket, b: Ticket): number {
  return a.priority - b.priority || b.created_ms - a.created_ms || (a.id < b.id ? -1 : 1)
}
