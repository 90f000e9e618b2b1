/** The live connection: snapshot, sequence, tick watchdog, jittered back-off, resume. Knows nothing of Vue. */

import type { LiveMessage } from '@/api/types'
import { decodeFrame, type SignalFrame } from './frame'

export type LinkState = 'connecting' | 'live' | 'late' | 'lost' | 'denied'

export interface LiveHandlers {
  message(message: LiveMessage): void
  signals(frame: SignalFrame): void
  state(state: LinkState): void
}

export interface LiveDeps {
  url: string
  open(url: string): WebSocket
  nowMs(): number
  random(): number
}

/** Without a message for this long the picture is called late. */
export const LATE_MS = 3_000
/** Without a message for this long the socket is taken for dead, whatever the browser says. */
export const DEAD_MS = 6_000
const CAP_MS = 10_000
const WATCH_MS = 250

export function backoffMs(attempt: number, random: number): number {
  const base = Math.min(CAP_MS, 1_000 * 2 ** attempt)
  return Math.round(base * (0.7 + 0.6 * random))
}

export class LiveSocket {
  seq = 0
  lastHeardMs = 0
  private socket: WebSocket | null = null
  private current: LinkState = 'connecting'
  private sound = 'off'
  private attempt = 0
  private missedTicks = 0
  private watch: ReturnType<typeof setInterval> | undefined
  private retry: ReturnType<typeof setTimeout> | undefined
  private subscription: { view: number[]; hz: number } = { view: [], hz: 1 }

  constructor(
    private readonly handlers: LiveHandlers,
    private readonly deps: LiveDeps,
  ) {}

  get state(): LinkState {
    return this.current
  }

  start(): void {
    this.watch ??= setInterval(() => this.check(), WATCH_MS)
    this.connect()
  }

  stop(): void {
    clearInterval(this.watch)
    clearTimeout(this.retry)
    this.watch = undefined
    this.drop()
    this.seq = 0
  }

  /** Try at once: the network came back, or somebody looks at the page again. */
  wake(): void {
    if (this.watch === undefined || this.current === 'live' || this.current === 'denied') return
    if (this.socket && this.deps.nowMs() - this.lastHeardMs < LATE_MS) return
    this.attempt = 0
    this.connect()
  }

  subscribe(view: number[], hz: number): void {
    this.subscription = { view, hz }
    this.sendSubscription()
  }

  /** Whether this page can be heard: the engine warns when no console can. */
  tellSound(state: string): void {
    this.sound = state
    this.send({ op: 'sound', state })
  }

  private connect(): void {
    clearTimeout(this.retry)
    this.drop()
    if (this.current !== 'lost') this.become('connecting')
    const socket = this.deps.open(this.deps.url)
    socket.binaryType = 'arraybuffer'
    this.socket = socket
    this.lastHeardMs = this.deps.nowMs()
    socket.onopen = () => {
      this.heard()
      if (this.seq > 0) this.send({ op: 'resume', seq: this.seq })
      this.sendSubscription()
      this.send({ op: 'sound', state: this.sound })
    }
    socket.onmessage = (event: MessageEvent<unknown>) => this.receive(event.data)
    socket.onclose = (event: CloseEvent) => this.closed(event.code)
    socket.onerror = () => {} // close follows and says more
  }

  private receive(data: unknown): void {
    this.heard()
    if (data instanceof ArrayBuffer) {
      const frame = decodeFrame(data)
      if (frame) this.handlers.signals(frame)
      return
    }
    const message = JSON.parse(String(data)) as LiveMessage
    if (message.type === 'snapshot') {
      this.seq = message.seq
      this.attempt = 0
      this.missedTicks = 0
      this.become('live')
    } else if (message.type === 'change') {
      if (message.prev !== undefined && message.prev > this.seq) this.send({ op: 'resume', seq: this.seq })
      this.seq = Math.max(this.seq, message.seq)
      this.become('live')
    } else if (message.type === 'tick') {
      this.compare(message.seq)
      if (this.seq > 0) this.become('live')
    }
    this.handlers.message(message)
  }

  /** A tick ahead of us twice in a row means that a change was lost on the way. */
  private compare(seq: number): void {
    if (seq <= this.seq) {
      this.missedTicks = 0
    } else if (++this.missedTicks >= 2) {
      this.missedTicks = 0
      this.send({ op: 'resume', seq: this.seq })
    }
  }

  private closed(code: number): void {
    this.socket = null
    if (code === 4401 || code === 4403 || code === 1008) {
      this.become('denied')
      return
    }
    this.become('lost')
    this.retry = setTimeout(() => this.connect(), backoffMs(this.attempt++, this.deps.random()))
  }

  private check(): void {
    if (!this.socket) return
    const silent = this.deps.nowMs() - this.lastHeardMs
    if (silent >= DEAD_MS) {
      this.drop()
      this.closed(1006)
    } else if (silent >= LATE_MS && this.current === 'live') {
      this.become('late')
    }
  }

  private heard(): void {
    this.lastHeardMs = this.deps.nowMs()
    if (this.current === 'late') this.become('live')
  }

  private drop(): void {
    const socket = this.socket
    this.socket = null
    if (!socket) return
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null
    socket.close()
  }

  private become(state: LinkState): void {
    if (state === this.current) return
    this.current = state
    this.handlers.state(state)
  }

  private sendSubscription(): void {
    this.send({ op: 'sub', topic: 'signals', ...this.subscription })
  }

  private send(message: object): void {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(message))
  }
}
