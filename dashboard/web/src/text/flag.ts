import type { Alarm, Ticket } from '@/api/types'

/** 'un' filled blinking, 'on' filled, 'rtn' hollow blinking, 'off' hollow grey. */
export type FlagMode = 'un' | 'on' | 'rtn' | 'off'

export function flagMode(alarm: Pick<Alarm, 'state'>): FlagMode {
  if (alarm.state === 'UNACK') return 'un'
  if (alarm.state === 'RTNUN' || alarm.state === 'LUNACK') return 'rtn'
  return alarm.state === 'ACKED' || alarm.state === 'LACKED' ? 'on' : 'off'
}

/** A ticket's flag has colour only while one of its alarms is active. */
export const ticketFlag = (ticket: Pick<Ticket, 'alarms'>): FlagMode =>
  ticket.alarms.some((alarm) => alarm.is_active) ? 'on' : 'off'
