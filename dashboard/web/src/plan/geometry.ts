/** From metres on the ground (origin south-west, y to the north) to pixels on the screen. Pure. */

import type { Place, Plan, Point } from '@/api/types'

export interface Rect {
  x: number
  y: number
  w: number
  h: number
}

export interface Fit {
  /** Pixels a metre. */
  k: number
  x(metres: number): number
  y(metres: number): number
}

export interface Margin {
  top: number
  right: number
  bottom: number
  left: number
}

/** What the plan must show, in metres: the wall, or everything drawn when there is none. */
export function boundsOf(plan: Plan, places: readonly Place[]): Rect {
  const points: Point[] = plan.wall.length > 2 ? [...plan.wall] : [...plan.roads.flat(), ...plan.green.flat()]
  for (const place of places) {
    if (place.outline) points.push(...place.outline)
    if (place.at) points.push(place.at)
  }
  if (points.length === 0) return { x: 0, y: 0, w: 100, h: 50 }
  return rectOf(points)
}

export function rectOf(points: readonly Point[]): Rect {
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1])
  const x = Math.min(...xs), y = Math.min(...ys)
  return { x, y, w: Math.max(...xs) - x, h: Math.max(...ys) - y }
}

/** The largest scale at which the bounds fit between the margins, centred. */
export function fit(bounds: Rect, width: number, height: number, margin: Margin): Fit {
  const innerW = Math.max(1, width - margin.left - margin.right)
  const innerH = Math.max(1, height - margin.top - margin.bottom)
  const k = Math.min(innerW / Math.max(bounds.w, 1), innerH / Math.max(bounds.h, 1))
  const left = margin.left + (innerW - bounds.w * k) / 2
  const bottom = margin.top + (innerH + bounds.h * k) / 2
  return {
    k,
    x: (metres) => left + (metres - bounds.x) * k,
    y: (metres) => bottom - (metres - bounds.y) * k,
  }
}

export function path(points: readonly Point[], to: Fit, isClosed = true): string {
  const body = points.map(([x, y], i) => `${i === 0 ? 'M' : 'L'}${to.x(x).toFixed(1)} ${to.y(y).toFixed(1)}`).join('')
  return isClosed ? `${body}Z` : body
}

/** The box of an outline in pixels. */
export function box(points: readonly Point[], to: Fit): Rect {
  const r = rectOf(points)
  return { x: to.x(r.x), y: to.y(r.y + r.h), w: r.w * to.k, h: r.h * to.k }
}

/** A smooth closed curve through the points (Catmull-Rom), for water. */
export function smooth(points: readonly Point[], to: Fit): string {
  const p = points.map(([x, y]): Point => [to.x(x), to.y(y)])
  const n = p.length
  if (n < 3) return path(points, to)
  let d = `M${p[0]![0].toFixed(1)} ${p[0]![1].toFixed(1)}`
  for (let i = 0; i < n; i++) {
    const [a, b, c, e] = [p[(i + n - 1) % n]!, p[i]!, p[(i + 1) % n]!, p[(i + 2) % n]!]
    const one = [b[0] + (c[0] - a[0]) / 6, b[1] + (c[1] - a[1]) / 6]
    const two = [c[0] - (e[0] - b[0]) / 6, c[1] - (e[1] - b[1]) / 6]
    d += `C${[...one, ...two, ...c].map((v) => v.toFixed(1)).join(' ')}`
  }
  return `${d}Z`
}

const isInside = ([x, y]: Point, outline: readonly Point[]): boolean => {
  let inside = false
  for (let i = 0, j = outline.length - 1; i < outline.length; j = i++) {
    const [xi, yi] = outline[i]!, [xj, yj] = outline[j]!
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside
  }
  return inside
}

const distance = (p: Point, a: Point, b: Point): number => {
  const dx = b[0] - a[0], dy = b[1] - a[1]
  const t = Math.max(0, Math.min(1, ((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / (dx * dx + dy * dy || 1)))
  return Math.hypot(p[0] - a[0] - t * dx, p[1] - a[1] - t * dy)
}

export interface Tree {
  x: number
  y: number
  r: number
}

/** Trees on the green, away from roads, paths, water and houses; always the same ones for the same plan. */
export function trees(plan: Plan, places: readonly Place[], count = 130): Tree[] {
  if (plan.green.length === 0) return []
  let state = 77
  const random = (): number => (state = (state * 16807) % 2147483647) / 2147483647
  const solid = places.flatMap((place) => (place.outline && place.kind !== 'unit' ? [rectOf(place.outline)] : []))
  const lines = [...plan.roads.map((line) => [line, 4.6] as const), ...(plan.paths ?? []).map((line) => [line, 3] as const)]
  const found: Tree[] = []
  const all = rectOf(plan.green.flat())
  for (let tries = 0; tries < count * 8 && found.length < count; tries++) {
    const p: Point = [all.x + random() * all.w, all.y + random() * all.h]
    const r = 1 + random() * 1.1
    const isFree =
      plan.green.some((outline) => isInside(p, outline)) &&
      !plan.water.some((outline) => isInside(p, outline)) &&
      !solid.some((s) => p[0] > s.x - 3 && p[0] < s.x + s.w + 3 && p[1] > s.y - 3 && p[1] < s.y + s.h + 3) &&
      !lines.some(([line, gap]) => line.some((b, i) => i > 0 && distance(p, line[i - 1]!, b) < gap)) &&
      !found.some((t) => Math.hypot(t.x - p[0], t.y - p[1]) < 3)
    if (isFree) found.push({ x: p[0], y: p[1], r })
  }
  return found
}
