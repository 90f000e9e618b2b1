/** Live values: typed arrays by dense index, a dirty list and one flush per animation frame. */

import type { Sample } from '@/api/types'
import { STALE, type SignalFrame } from './frame'

export interface Reading {
  /** Last value in the signal's unit, NaN when there never was one. */
  value: number
  timeMs: number
  quality: number
  isStale: boolean
}

export const NO_READING: Reading = Object.freeze({ value: NaN, timeMs: 0, quality: STALE, isStale: true })

/** Qualities whose value may be shown as true: good, clock doubtful, uncertain, manual. */
const USABLE = new Set([0, 4, 5, 6])
export const isUsable = (reading: Reading): boolean =>
  !reading.isStale && USABLE.has(reading.quality) && !Number.isNaN(reading.value)

type Listener = (reading: Reading) => void
type View = { indices: number[]; hz: number }

export class SignalStore {
  epoch = -1
  private keys: string[] = []
  private indexOf = new Map<string, number>()
  private value = new Float64Array(0)
  private time = new Float64Array(0)
  private quality = new Uint8Array(0)
  private listeners = new Map<string, Map<Listener, number>>()
  private dirty = new Set<number>()
  private isFlushPlanned = false
  private isViewPlanned = false

  /**
   * @param onView called (at most once a microtask) when the set of watched signals or the rate changes
   * @param nextFrame requestAnimationFrame, or a test's own
   */
  constructor(
    private readonly onView: (view: View) => void = () => {},
    private readonly nextFrame: (run: () => void) => void = (run) => requestAnimationFrame(run),
  ) {}

  /** Take a new index; what is watched stays watched under its key. */
  reset(epoch: number, keys: string[]): void {
    const before = new Map(this.keys.map((key, i) => [key, this.at(i)]))
    this.epoch = epoch
    this.keys = keys
    this.indexOf = new Map(keys.map((key, i) => [key, i]))
    this.value = new Float64Array(keys.length).fill(NaN)
    this.time = new Float64Array(keys.length)
    this.quality = new Uint8Array(keys.length).fill(STALE)
    keys.forEach((key, i) => {
      const old = before.get(key)
      if (old) this.set(i, old.value, old.timeMs, old.quality)
    })
    this.planView()
  }

  /** Values fetched over HTTP, older than any frame that follows. */
  seed(samples: readonly Sample[]): void {
    for (const sample of samples) {
      const i = this.indexOf.get(sample.key)
      if (i === undefined || (sample.time_ms ?? 0) < this.time[i]!) continue
      this.set(i, sample.value ?? NaN, sample.time_ms ?? 0, sample.is_stale ? STALE : sample.quality)
    }
  }

  apply(frame: SignalFrame): void {
    if (frame.indexEpoch !== this.epoch) return
    for (let i = 0; i < frame.index.length; i++) {
      const at = frame.index[i]!
      if (at < this.keys.length) this.set(at, frame.value[i]!, frame.timeMs[i]!, frame.quality[i]!)
    }
  }

  /** The connection is gone: nothing on the screen may pretend to be fresh. */
  markAllStale(): void {
    this.quality.fill(STALE)
    for (const key of this.listeners.keys()) {
      const i = this.indexOf.get(key)
      if (i !== undefined) this.dirty.add(i)
    }
    this.planFlush()
  }

  read(key: string): Reading {
    const i = this.indexOf.get(key)
    return i === undefined ? NO_READING : this.at(i)
  }

  has(key: string): boolean {
    return this.indexOf.has(key)
  }

  /** Call back on every change of one signal, at most once a frame. Returns the way to stop. */
  watch(key: string, listener: Listener, hz = 2): () => void {
    let set = this.listeners.get(key)
    if (!set) this.listeners.set(key, (set = new Map()))
    set.set(listener, hz)
    this.planView()
    return () => {
      set.delete(listener)
      if (set.size === 0 && this.listeners.get(key) === set) this.listeners.delete(key)
      this.planView()
    }
  }

  view(): View {
    let hz = 1
    const indices: number[] = []
    for (const [key, set] of this.listeners) {
      const i = this.indexOf.get(key)
      if (i !== undefined) indices.push(i)
      for (const wish of set.values()) hz = Math.max(hz, wish)
    }
    return { indices: indices.sort((a, b) => a - b), hz }
  }

  private at(i: number): Reading {
    const quality = this.quality[i]!
    return { value: this.value[i]!, timeMs: this.time[i]!, quality, isStale: quality === STALE }
  }

  private set(i: number, value: number, timeMs: number, quality: number): void {
    this.value[i] = value
    this.time[i] = timeMs
    this.quality[i] = quality
    if (this.listeners.has(this.keys[i]!)) {
      this.dirty.add(i)
      this.planFlush()
    }
  }

  private planFlush(): void {
    if (this.isFlushPlanned) return
    this.isFlushPlanned = true
    this.nextFrame(() => {
      this.isFlushPlanned = false
      const dirty = [...this.dirty]
      this.dirty.clear()
      for (const i of dirty) {
        const key = this.keys[i]
        if (key === undefined) continue
        const reading = this.at(i)
        for (const listener of [...(this.listeners.get(key)?.keys() ?? [])]) listener(reading)
      }
    })
  }

  private planView(): void {
    if (this.isViewPlanned) return
    this.isViewPlanned = true
    queueMicrotask(() => {
      this.isViewPlanned = false
      this.onView(this.view())
    })
  }
}
