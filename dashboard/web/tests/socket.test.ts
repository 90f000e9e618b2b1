import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { backoffMs, DEAD_MS, LATE_MS, LiveSocket, type LinkState } from '@/live/socket'

/** A browser's socket end without a network. */
class Wire {
  static all: Wire[] = []
  readyState = 0
  binaryType = ''
  sent: Record<string, unknown>[] = []
  isClosed = false
  onopen: (() => void) | null = null
  onmessage: ((event: { data: unknown }) => void) | null = null
  onclose: ((event: { code: number }) => void) | null = null
  onerror: (() => void) | null = null
  constructor() {
    Wire.all.push(this)
  }
  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>)
  }
  close(): void {
    this.isClosed = true
  }
  accept(): void {
    this.readyState = 1
    this.onopen?.()
  }
  tell(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) })
  }
  die(code = 1006): void {
    this.readyState = 3
    this.onclose?.({ code })
  }
}

const wire = (): Wire => Wire.all.at(-1)!
const snapshot = (seq: number) => ({ type: 'snapshot', seq, server_ms: 1, index_epoch: 1, alarms: [], tickets: [], access: [], gateways: [], stats: {} })
const tick = (seq: number) => ({ type: 'tick', seq, server_ms: 1 })

let states: LinkState[] = []
let messages: string[] = []
let socket: LiveSocket

beforeEach(() => {
  vi.useFakeTimers()
  Wire.all = []
  states = []
  messages = []
  socket = new LiveSocket(
    { message: (m) => messages.push(m.type), signals: () => messages.push('frame'), state: (s) => states.push(s) },
    { url: 'ws://x', open: () => new Wire() as unknown as WebSocket, nowMs: () => Date.now(), random: () => 0.5 },
  )
  socket.start()
})
afterEach(() => {
  socket.stop()
  vi.useRealTimers()
})

describe('the live connection', () => {
  it('is live only once the whole picture is there', () => {
    wire().accept()
    expect(socket.state).toBe('connecting')
    wire().tell(snapshot(7))
    expect(socket.state).toBe('live')
    expect(socket.seq).toBe(7)
  })

  it('says that data are late after three seconds of silence, and takes it back with the next word', () => {
    wire().accept()
    wire().tell(snapshot(1))
    vi.advanceTimersByTime(LATE_MS - 500)
    expect(socket.state).toBe('live')
    vi.advanceTimersByTime(1000)
    expect(socket.state).toBe('late')
    wire().tell(tick(1))
    expect(socket.state).toBe('live')
  })

  it('drops a dead socket after six seconds even if the browser never reports it, and connects again', () => {
    wire().accept()
    wire().tell(snapshot(1))
    const dead = wire()
    vi.advanceTimersByTime(DEAD_MS + 300)
    expect(socket.state).toBe('lost')
    expect(dead.isClosed).toBe(true)
    vi.advanceTimersByTime(1100)
    expect(Wire.all.length).toBe(2)
  })

  it('asks to continue where it stopped, and stays "lost" until the answer is there', () => {
    wire().accept()
    wire().tell(snapshot(41))
    wire().die()
    vi.advanceTimersByTime(1100)
    expect(socket.state).toBe('lost')
    wire().accept()
    expect(wire().sent[0]).toEqual({ op: 'resume', seq: 41 })
    wire().tell({ type: 'change', seq: 44, prev: 41, server_ms: 1, alarms: [] })
    expect(socket.state).toBe('live')
    expect(socket.seq).toBe(44)
  })

  it('asks again when a change is missing between what it has and what comes', () => {
    wire().accept()
    wire().tell(snapshot(10))
    wire().tell({ type: 'change', seq: 15, prev: 12, server_ms: 1, alarms: [] })
    expect(wire().sent).toContainEqual({ op: 'resume', seq: 10 })
  })

  it('asks again when ticks tell of a change that never came', () => {
    wire().accept()
    wire().tell(snapshot(10))
    wire().tell(tick(12))
    expect(wire().sent.some((m) => m['op'] === 'resume')).toBe(false)
    wire().tell(tick(12))
    expect(wire().sent).toContainEqual({ op: 'resume', seq: 10 })
  })

  it('does not hammer the door when the session has ended', () => {
    wire().accept()
    wire().die(4401)
    expect(socket.state).toBe('denied')
    vi.advanceTimersByTime(60_000)
    expect(Wire.all.length).toBe(1)
  })

  it('tells the server after every connect which signals it looks at, and whether it can be heard', () => {
    socket.subscribe([3, 5], 2)
    wire().accept()
    const told = { op: 'sub', topic: 'signals', view: [3, 5], hz: 2 }
    expect(wire().sent).toEqual([told, { op: 'sound', state: 'off' }])
    socket.tellSound('on')
    expect(wire().sent.at(-1)).toEqual({ op: 'sound', state: 'on' })
    wire().die()
    vi.advanceTimersByTime(1100)
    wire().accept()
    expect(wire().sent).toEqual([told, { op: 'sound', state: 'on' }])
  })

  it('tries at once when the network comes back', () => {
    wire().accept()
    wire().tell(snapshot(1))
    wire().die()
    socket.wake()
    expect(Wire.all.length).toBe(2)
  })
})

describe('back-off', () => {
  it('doubles from one second to ten, with a third of play to either side', () => {
    expect(backoffMs(0, 0.5)).toBe(1000)
    expect(backoffMs(2, 0.5)).toBe(4000)
    expect(backoffMs(20, 0.5)).toBe(10_000)
    expect(backoffMs(3, 0)).toBe(5600)
    expect(backoffMs(3, 1)).toBe(10_400)
  })
})
