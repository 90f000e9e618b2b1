/** Wires the live connection to the stores. One per page. */

import { watch } from 'vue'
import { api } from '@/api/client'
import type { LiveMessage, Page, Sample } from '@/api/types'
import { useAccess } from '@/stores/access'
import { useAlarms } from '@/stores/alarms'
import { useLink } from '@/stores/link'
import { useSound } from '@/stores/sound'
import { useTickets } from '@/stores/tickets'
import { SignalStore } from './signals'
import { LiveSocket } from './socket'

export const signals: SignalStore = new SignalStore((view) => socket?.subscribe(view.indices, view.hz))
let socket: LiveSocket | null = null
let isIndexLoading = false

function liveUrl(): string {
  const url = new URL('/api/v1/live', location.href)
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:'
  return url.href
}

async function loadIndex(): Promise<void> {
  if (isIndexLoading) return
  isIndexLoading = true
  try {
    const index = await api.get<{ epoch: number; keys: string[] }>('/live/index')
    signals.reset(index.epoch, index.keys)
    signals.seed((await api.get<Page<Sample>>('/signals', { limit: 5000 })).items)
  } catch {
    setTimeout(() => void loadIndex(), 3000)
  } finally {
    isIndexLoading = false
  }
}

function receive(message: LiveMessage): void {
  const link = useLink()
  if (message.type === 'signals_reset') {
    void loadIndex()
    return
  }
  if (message.type !== 'snapshot' && message.type !== 'change' && message.type !== 'tick') return
  link.heard(message.server_ms)
  if (message.type === 'snapshot') {
    useAlarms().replace(message.alarms)
    useTickets().replace(message.tickets)
    useAccess().add(message.access)
    if (message.index_epoch !== signals.epoch) void loadIndex()
  } else if (message.type === 'change') {
    useAlarms().change(message.alarms ?? [])
    useTickets().change(message.tickets ?? [])
    useAccess().add(message.access ?? [])
  }
  if (message.type !== 'change') {
    if (message.stats) link.stats = message.stats
    if (message.gateways) link.gateways = message.gateways
    if (message.type === 'tick' && message.build) newBuild(message.build)
  }
}

/** A new version of the page reloads itself at the next quiet moment: no unacknowledged priority 1 or 2. */
function newBuild(build: string): void {
  const link = useLink()
  if (link.build === '') link.build = build
  const isQuiet = useAlarms().unacked.every((alarm) => alarm.priority > 2)
  if (build !== link.build && isQuiet && document.querySelector('dialog[open]') === null) location.reload()
}

export function connect(onDenied: () => void): void {
  if (socket) return
  const link = useLink()
  socket = new LiveSocket(
    {
      message: receive,
      signals: (frame) => signals.apply(frame),
      state: (state) => {
        const wasLost = link.state === 'lost'
        link.state = state
        if (state === 'live' && wasLost) void loadIndex()
        if (state === 'lost') {
          signals.markAllStale()
          // a server that refuses the handshake looks like a lost network: ask which it is
          void api.get('/session').catch((error: { status?: number }) => error.status === 401 && onDenied())
        }
        if (state === 'denied') onDenied()
      },
    },
    { url: liveUrl(), open: (url) => new WebSocket(url), nowMs: () => performance.now(), random: Math.random },
  )
  const view = signals.view()
  socket.subscribe(view.indices, view.hz)
  socket.start()
  const sound = useSound()
  watch(() => sound.state, (state) => socket?.tellSound(state), { immediate: true })
  for (const name of ['online', 'pageshow', 'focus']) addEventListener(name, wake)
  document.addEventListener('visibilitychange', wake)
}

const wake = (): void => socket?.wake()

export function disconnect(): void {
  socket?.stop()
  socket = null
  useLink().state = 'connecting'
}
