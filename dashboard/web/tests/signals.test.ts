import { describe, expect, it, vi } from 'vitest'
import { decodeFrame, STALE, type SignalFrame } from '@/live/frame'
import { isUsable, SignalStore } from '@/live/signals'

function frameBytes(epoch: number, rows: { index: number; value: number; time: number; quality: number }[]): ArrayBuffer {
  const n = rows.length
  const buffer = new ArrayBuffer(24 + 21 * n)
  const view = new DataView(buffer)
  view.setUint32(0, 0x31535257, true)
  view.setUint32(4, epoch, true)
  view.setUint32(8, n, true)
  view.setFloat64(16, 1_700_000_000_000, true)
  rows.forEach((row, i) => {
    view.setFloat64(24 + 8 * i, row.value, true)
    view.setFloat64(24 + 8 * n + 8 * i, row.time, true)
    view.setUint32(24 + 16 * n + 4 * i, row.index, true)
    view.setUint8(24 + 20 * n + i, row.quality)
  })
  return buffer
}

const frame = (epoch: number, rows: Parameters<typeof frameBytes>[1]): SignalFrame => decodeFrame(frameBytes(epoch, rows))!

function store() {
  const frames: (() => void)[] = []
  const views: { indices: number[]; hz: number }[] = []
  const made = new SignalStore((view) => views.push(view), (run) => frames.push(run))
  made.reset(1, ['A/x', 'A/y', 'B/z'])
  return { made, views, flush: () => frames.splice(0).forEach((run) => run()) }
}

describe('signal frames', () => {
  it('carry values, times, indices and qualities in columns', () => {
    const got = frame(9, [{ index: 4, value: 0.402, time: 123, quality: 0 }, { index: 7, value: NaN, time: 124, quality: 3 }])
    expect(got.indexEpoch).toBe(9)
    expect([...got.value]).toEqual([0.402, NaN])
    expect([...got.index]).toEqual([4, 7])
    expect([...got.quality]).toEqual([0, 3])
    expect(got.serverMs).toBe(1_700_000_000_000)
  })

  it('are refused when cut short or of another kind', () => {
    const whole = frameBytes(1, [{ index: 0, value: 1, time: 1, quality: 0 }])
    expect(decodeFrame(whole.slice(0, whole.byteLength - 1))).toBeNull()
    expect(decodeFrame(new ArrayBuffer(8))).toBeNull()
    new DataView(whole).setUint32(0, 1, true)
    expect(decodeFrame(whole)).toBeNull()
  })
})

describe('the signal store', () => {
  it('calls a listener once a frame with the newest value, however many samples came', () => {
    const { made, flush } = store()
    const seen = vi.fn()
    made.watch('A/y', seen)
    for (let i = 1; i <= 5; i++) made.apply(frame(1, [{ index: 1, value: i, time: i, quality: 0 }]))
    expect(seen).not.toHaveBeenCalled()
    flush()
    expect(seen).toHaveBeenCalledTimes(1)
    expect(seen.mock.calls[0]![0]).toMatchObject({ value: 5, timeMs: 5, isStale: false })
  })

  it('ignores frames of an index it does not have: a wrong number must never appear under a right name', () => {
    const { made } = store()
    made.apply(frame(2, [{ index: 0, value: 99, time: 1, quality: 0 }]))
    expect(made.read('A/x').value).toBeNaN()
  })

  it('keeps watching a signal under its key when the index changes', () => {
    const { made, flush } = store()
    const seen = vi.fn()
    made.watch('B/z', seen)
    made.reset(2, ['B/z', 'A/x'])
    made.apply(frame(2, [{ index: 0, value: 3, time: 9, quality: 0 }]))
    flush()
    expect(seen.mock.calls.at(-1)![0]).toMatchObject({ value: 3 })
  })

  it('asks the server only for what is on the screen, at the fastest rate anyone wants', async () => {
    const { made, views } = store()
    const stop = made.watch('B/z', () => {}, 2)
    made.watch('A/x', () => {}, 10)
    await Promise.resolve()
    expect(views.at(-1)).toEqual({ indices: [0, 2], hz: 10 })
    stop()
    await Promise.resolve()
    expect(views.at(-1)).toEqual({ indices: [0], hz: 10 })
  })

  it('shows nothing as fresh once the connection is lost', () => {
    const { made, flush } = store()
    made.apply(frame(1, [{ index: 0, value: 1, time: 1, quality: 0 }]))
    const seen = vi.fn()
    made.watch('A/x', seen)
    made.markAllStale()
    flush()
    expect(seen.mock.calls[0]![0]).toMatchObject({ value: 1, quality: STALE, isStale: true })
    expect(isUsable(made.read('A/x'))).toBe(false)
  })

  it('does not let an older value fetched over HTTP replace a newer one from the wire', () => {
    const { made } = store()
    made.apply(frame(1, [{ index: 0, value: 2, time: 200, quality: 0 }]))
    made.seed([{ key: 'A/x', index: 0, value: 1, time_ms: 100, quality: 0, is_stale: false }])
    expect(made.read('A/x').value).toBe(2)
  })
})

describe('quality', () => {
  it('lets good, doubtful clock, uncertain and manual values be shown as true, and no others', () => {
    const usable = [0, 1, 2, 3, 4, 5, 6, STALE].filter((quality) => isUsable({ value: 1, timeMs: 1, quality, isStale: quality === STALE }))
    expect(usable).toEqual([0, 4, 5, 6])
    expect(isUsable({ value: NaN, timeMs: 1, quality: 0, isStale: false })).toBe(false)
  })
})
