import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'

const folder = process.env['WATCHROOM_STATIC'] ?? join(import.meta.dirname, '..', '..', 'static')
const assets = join(folder, 'assets')
const isBuilt = existsSync(join(folder, 'index.html'))

/** The file and everything it imports at once, not what it loads later. */
function closure(name: string, found = new Set<string>()): Set<string> {
  if (found.has(name)) return found
  found.add(name)
  const text = readFileSync(join(assets, name), 'utf8')
  for (const m of text.matchAll(/(?:import|from)\s*"\.\/([^"]+\.js)"/g)) closure(m[1]!, found)
  return found
}
const kilobytes = (names: Iterable<string>): number =>
  [...names].reduce((sum, name) => sum + gzipSync(readFileSync(join(assets, name)), { level: 9 }).length, 0) / 1000

describe.skipIf(!isBuilt)('the size of the pages (needs a build)', () => {
  const html = isBuilt ? readFileSync(join(folder, 'index.html'), 'utf8') : ''
  const entry = /src="\/assets\/([^"]+\.js)"/.exec(html)?.[1] ?? ''

  it('keeps the first chunk below 90 kB', () => {
    expect(kilobytes(closure(entry))).toBeLessThan(90)
  })

  it('keeps every route below 160 kB, and the phone’s ticket pages below 120', () => {
    const base = closure(entry)
    for (const name of readdirSync(assets).filter((file) => /Page-.*\.js$/.test(file))) {
      const size = kilobytes(closure(name, new Set(base)))
      expect(size, name).toBeLessThan(/^TicketsPage/.test(name) ? 120 : 160)
    }
  })

  it('brings the licences of what it is made of', () => {
    const text = readFileSync(join(folder, 'THIRD_PARTY_LICENSES.txt'), 'utf8')
    for (const name of ['vue', 'pinia', 'uplot', 'lucide', 'inter']) expect(text.toLowerCase()).toContain(name)
  })
})
