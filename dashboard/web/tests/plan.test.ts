import { describe, expect, it } from 'vitest'
import type { Plan, Place } from '@/api/types'
import { placeCallouts, type Wish } from '@/plan/callouts'
import { boundsOf, box, fit, path, trees, type Rect } from '@/plan/geometry'

const plan: Plan = {
  roads: [[[0, 40], [200, 40]]], green: [[[2, 2], [198, 2], [198, 98], [2, 98]]], water: [[[150, 60], [170, 60], [170, 80], [150, 80]]],
  wall: [[0, 0], [200, 0], [200, 100], [0, 100], [0, 0]],
}
const house: Place = { kind: 'building', name: '1', outline: [[20, 50], [60, 50], [60, 80], [20, 80]] }
const area = (a: Rect, b: Rect): number =>
  Math.max(0, Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x)) * Math.max(0, Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y))

describe('the site plan', () => {
  it('turns north up: what lies further north is drawn higher', () => {
    const to = fit({ x: 0, y: 0, w: 200, h: 100 }, 1000, 600, { top: 50, right: 50, bottom: 50, left: 50 })
    expect(to.y(90)).toBeLessThan(to.y(10))
    expect(to.x(90)).toBeGreaterThan(to.x(10))
  })

  it('fits whole between the margins at one scale, whatever the shape of the panel', () => {
    for (const [w, h] of [[1364, 686], [900, 900], [390, 440]] as const) {
      const to = fit(boundsOf(plan, [house]), w, h, { top: 40, right: 20, bottom: 30, left: 20 })
      expect(to.x(0)).toBeGreaterThanOrEqual(20 - 1e-6)
      expect(to.x(200)).toBeLessThanOrEqual(w - 20 + 1e-6)
      expect(to.y(100)).toBeGreaterThanOrEqual(40 - 1e-6)
      expect(to.y(0)).toBeLessThanOrEqual(h - 30 + 1e-6)
      expect(to.x(10) - to.x(0)).toBeCloseTo(to.y(0) - to.y(10))
    }
  })

  it('works for a site without a wall, and for one with nothing at all', () => {
    expect(boundsOf({ roads: [], green: [], water: [], wall: [] }, [house])).toEqual({ x: 20, y: 50, w: 40, h: 30 })
    expect(boundsOf({ roads: [], green: [], water: [], wall: [] }, []).w).toBeGreaterThan(0)
  })

  it('grows the same trees each time, none on a road, in the water or in a house', () => {
    const grown = trees(plan, [house])
    expect(grown.length).toBeGreaterThan(30)
    expect(trees(plan, [house])).toEqual(grown)
    for (const tree of grown) {
      expect(Math.abs(tree.y - 40)).toBeGreaterThan(4)
      expect(tree.x > 150 && tree.x < 170 && tree.y > 60 && tree.y < 80).toBe(false)
      expect(tree.x > 20 && tree.x < 60 && tree.y > 50 && tree.y < 80).toBe(false)
    }
  })

  it('draws outlines in pixels', () => {
    const to = fit({ x: 0, y: 0, w: 10, h: 10 }, 10, 10, { top: 0, right: 0, bottom: 0, left: 0 })
    expect(path([[0, 0], [10, 10]], to, false)).toBe('M0.0 10.0L10.0 0.0')
    expect(box([[2, 2], [4, 8]], to)).toEqual({ x: 2, y: 2, w: 2, h: 6 })
  })
})

describe('labels of alarms', () => {
  const frame = { x: 0, y: 0, w: 1364, h: 686 }
  const houses = [0, 1, 2, 3].flatMap((c) => [100, 500].map((y) => ({ x: 90 + c * 310, y, w: 240, h: 90 })))
  const wishes: Wish[] = houses.map((host, i) => ({ id: String(i), x: host.x + 120, y: host.y + 60, host, width: 200 }))

  it('never lie on each other or on a house while there is room beside it', () => {
    const placed = placeCallouts(wishes, houses, frame)
    expect(placed).toHaveLength(wishes.length)
    placed.forEach((one, i) => {
      placed.slice(i + 1).forEach((other) => expect(area(one.box, other.box)).toBe(0))
      houses.forEach((house_) => expect(area(one.box, house_)).toBe(0))
    })
  })

  it('stay inside the drawing, also for something at its very edge', () => {
    const host = { x: 1340, y: 640, w: 24, h: 46 }
    const [one] = placeCallouts([{ id: 'e', x: 1350, y: 660, host, width: 300 }], [], frame)
    expect(one!.box.x + one!.box.w).toBeLessThanOrEqual(1364)
    expect(one!.box.y + one!.box.h).toBeLessThanOrEqual(686)
  })

  it('let no leader line run under the label of another thing in the same house', () => {
    const host = { x: 690, y: 340, w: 210, h: 84 }
    const [one, two] = placeCallouts([{ id: 'a', x: 710, y: 420, host, width: 170 }, { id: 'b', x: 755, y: 421, host, width: 140 }], [host], frame)
    for (let t = 0; t <= 1; t += 0.05) {
      const x = two!.from[0] + (two!.to[0] - two!.from[0]) * t, y = two!.from[1] + (two!.to[1] - two!.from[1]) * t
      const b = one!.box
      expect(x > b.x + 1 && x < b.x + b.w - 1 && y > b.y + 1 && y < b.y + b.h - 1).toBe(false)
    }
  })

  it('keep the leader line short enough to be followed', () => {
    for (const { from, to } of placeCallouts(wishes, houses, frame)) expect(Math.hypot(from[0] - to[0], from[1] - to[1])).toBeLessThan(160)
  })
})
