/** Where the labels of alarms go: close to what they speak of, over nothing that matters. Pure. */

import type { Rect } from './geometry'

export interface Wish {
  id: string
  /** Where the leader line starts. */
  x: number
  y: number
  /** The symbol or house that the label should stand next to. */
  host: Rect
  width: number
}

export interface Callout {
  id: string
  box: Rect
  /** Leader line from the symbol to the edge of the label. */
  from: [number, number]
  to: [number, number]
}

const HEIGHT = 28
const GAP = 9
/** A leader line that runs under another label costs as much as this many pixels of distance. */
const CROSSING = 300

function overlap(a: Rect, b: Rect): number {
  const w = Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x)
  const h = Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y)
  return w > 0 && h > 0 ? w * h : 0
}

/** Whether a line runs under a label. */
function isUnder(from: readonly [number, number], to: readonly [number, number], label: Rect): boolean {
  for (let t = 0; t <= 1; t += 0.1) {
    const x = from[0] + (to[0] - from[0]) * t, y = from[1] + (to[1] - from[1]) * t
    if (x > label.x && x < label.x + label.w && y > label.y && y < label.y + label.h) return true
  }
  return false
}

const grow = (r: Rect, by: number): Rect => ({ x: r.x - by, y: r.y - by, w: r.w + 2 * by, h: r.h + 2 * by })

function candidates({ x, y, host, width }: Wish): Rect[] {
  const at = (left: number, top: number): Rect => ({ x: left, y: top, w: width, h: HEIGHT })
  const lefts = [host.x, x - width / 2, host.x + host.w - width, x - width + 24, x - 24]
  const rows = [host.y - HEIGHT - GAP, host.y + host.h + GAP, host.y - 2 * HEIGHT - 2 * GAP, host.y + host.h + HEIGHT + 2 * GAP]
  const beside = [host.x + host.w + GAP, host.x - width - GAP].flatMap((left) => [at(left, y - HEIGHT / 2), at(left, y - HEIGHT - GAP), at(left, y + GAP)])
  return [...rows.flatMap((top) => lefts.map((left) => at(left, top))), ...beside]
}

/**
 * Place labels one after the other, the most urgent first.
 *
 * @param wishes in order of urgency
 * @param obstacles houses and texts that a label should not cover; its own host may not be covered either
 * @param frame the drawing area
 */
export function placeCallouts(wishes: readonly Wish[], obstacles: readonly Rect[], frame: Rect): Callout[] {
  const placed: Callout[] = []
  for (const wish of wishes) {
    let best: Rect | null = null, bestCost = Infinity
    for (const raw of candidates(wish)) {
      const rect = {
        ...raw,
        x: Math.min(Math.max(raw.x, frame.x), frame.x + frame.w - raw.w),
        y: Math.min(Math.max(raw.y, frame.y), frame.y + frame.h - raw.h),
      }
      const cx = rect.x + rect.w / 2, cy = rect.y + rect.h / 2
      let cost = Math.hypot(cx - wish.x, (cy - wish.y) * 1.4)
      for (const other of placed) {
        cost += overlap(grow(rect, 5), other.box) * 20
        cost += (isUnder([wish.x, wish.y], anchor(rect, wish), other.box) || isUnder(other.from, other.to, rect) ? 1 : 0) * CROSSING
      }
      for (const solid of obstacles) cost += overlap(rect, solid) * 2
      if (cost < bestCost) {
        best = rect
        bestCost = cost
      }
    }
    if (best) placed.push({ id: wish.id, box: best, from: [wish.x, wish.y], to: anchor(best, wish) })
  }
  return placed
}

/** The point of the label's edge that the leader line ends at. */
function anchor(rect: Rect, { x, y }: Wish): [number, number] {
  const inset = 16
  const px = Math.min(Math.max(x, rect.x + inset), rect.x + rect.w - inset)
  if (y > rect.y + rect.h) return [px, rect.y + rect.h]
  if (y < rect.y) return [px, rect.y]
  return [x < rect.x ? rect.x : rect.x + rect.w, rect.y + rect.h / 2]
}
