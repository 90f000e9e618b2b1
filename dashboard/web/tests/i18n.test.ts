import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ready } from '@/i18n'
import en from '@/i18n/en.json'
import zh from '@/i18n/zh.json'

type Tree = { [key: string]: string | Tree }
function flat(tree: Tree, prefix = ''): Map<string, string> {
  const found = new Map<string, string>()
  for (const [key, value] of Object.entries(tree)) {
    if (typeof value === 'string') found.set(prefix + key, value)
    else for (const [k, v] of flat(value, `${prefix}${key}.`)) found.set(k, v)
  }
  return found
}
const placeholders = (text: string): string => [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]).sort().join(' ')
function sources(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name)
    return statSync(path).isDirectory() ? sources(path) : /\.(vue|ts)$/.test(name) ? [path] : []
  })
}

const texts = { zh: flat(zh as Tree), en: flat(en as Tree) }
const src = join(import.meta.dirname, '..', 'src')
const files = sources(src).map((path) => ({ path: path.slice(src.length + 1), text: readFileSync(path, 'utf8') }))

describe('both languages', () => {
  it('have the same keys', () => {
    expect([...texts.en.keys()].sort()).toEqual([...texts.zh.keys()].sort())
  })

  it('have the same placeholders in every text', () => {
    const differing = [...texts.zh].filter(([key, text]) => placeholders(text) !== placeholders(texts.en.get(key) ?? '')).map(([key]) => key)
    expect(differing).toEqual([])
  })

  it('have no empty text, and none with signs that the message format would eat', () => {
    for (const map of Object.values(texts)) {
      for (const [key, text] of map) {
        expect(text.trim(), key).not.toBe('')
        expect(/[|@]/.test(text), key).toBe(false)
      }
    }
  })

  it('know every key that the pages ask for by name', () => {
    const missing = files.flatMap(({ path, text }) =>
      [...text.matchAll(/(?<![\w.])t\('([a-z_]+\.[\w]+)'/gi)].map((m) => m[1]!).filter((key) => !texts.zh.has(key)).map((key) => `${path}: ${key}`))
    expect(missing).toEqual([])
  })

  it('know the group of every key that is put together', () => {
    const groups = new Set([...texts.zh.keys()].map((key) => key.split('.')[0]))
    const asked = files.flatMap(({ text }) => [...text.matchAll(/(?:t\(`|tw\(')([a-z_]+)/g)].map((m) => m[1]!))
    expect(asked.length).toBeGreaterThan(10)
    expect(asked.filter((group) => !groups.has(group))).toEqual([])
  })
})

describe('a text with gaps', () => {
  it('is filled by name, and leaves nothing of the gap when nobody fills it', () => {
    const { a } = ready({ a: '{n} / {total}' }) as { a: (context: { named(name: string): unknown }) => string }
    expect(a({ named: (name) => ({ n: 3, total: 12 })[name] })).toBe('3 / 12')
    expect(a({ named: () => undefined })).toBe(' / ')
  })
})

describe('the pages', () => {
  it('hold no text of their own outside i18n', () => {
    const own = files.filter(({ path }) => path.endsWith('.vue')).flatMap(({ path, text }) => {
      const template = /<template>([\s\S]*)<\/template>/.exec(text)?.[1] ?? ''
      return [...template.matchAll(/>([^<>{}]*[\u4e00-\u9fff][^<>{}]*)</g)].map((m) => `${path}: ${m[1]!.trim()}`)
    })
    // the language switch names each language in itself
    expect([...new Set(own)].filter((line) => !line.endsWith(': 中文'))).toEqual([])
  })
})
