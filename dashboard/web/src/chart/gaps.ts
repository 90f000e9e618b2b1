/** History buckets as a line with honest holes. Pure. */

import type { Series } from '@/api/types'

/** A signal that does not change is sent at least once a minute; a longer silence is a hole in the line. */
export const SILENCE_MS = 150_000

export type Columns = [t: number[], mean: (number | null)[], min: (number | null)[], max: (number | null)[]]

/**
 * Drop empty buckets and put one null where nothing came for too long.
 *
 * @param bucketMs width of a bucket
 * @param isStep use the last value of a bucket (states) instead of its mean
 * @returns columns in seconds, ready for uPlot
 */
export function columnsOf(series: Series | undefined, bucketMs: number, isStep: boolean): Columns {
  const out: Columns = [[], [], [], []]
  if (!series) return out
  const gap = Math.max(SILENCE_MS, bucketMs * 3)
  let before = NaN
  series.t.forEach((t, i) => {
    const value = (isStep ? series.last[i] : series.mean[i]) ?? null
    if (value === null) return
    if (t - before > gap) push(out, (before + t) / 2, null, null, null)
    push(out, t, value, isStep ? value : (series.min[i] ?? value), isStep ? value : (series.max[i] ?? value))
    before = t
  })
  return out
}

/** Add a live sample behind the history; an unusable one ends the line. */
export function append(columns: Columns, timeMs: number, value: number | null): void {
  const last = columns[0].at(-1) ?? -Infinity
  const t = timeMs / 1000
  if (t <= last) return
  if (Number.isFinite(last) && (t - last) * 1000 > SILENCE_MS) push(columns, ((t + last) / 2) * 1000, null, null, null)
  push(columns, timeMs, value, value, value)
}

/** Forget what has left the window. */
export function trim(columns: Columns, fromMs: number): void {
  const from = fromMs / 1000
  const keep = columns[0].findIndex((t) => t >= from)
  if (keep > 512) for (const column of columns) column.splice(0, keep - 1)
}

function push(columns: Columns, timeMs: number, mean: number | null, min: number | null, max: number | null): void {
  columns[0].push(timeMs / 1000)
  columns[1].push(mean)
  columns[2].push(min)
  columns[3].push(max)
}
