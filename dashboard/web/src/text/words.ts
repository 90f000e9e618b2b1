/** Texts in two languages, and numbers with the decimals their unit deserves. */

import type { Lang, SignalInfo, Words } from '@/api/types'

export function say(words: Words, lang: Lang): string {
  if (words === null || words === undefined) return ''
  if (typeof words === 'string') return words
  return words[lang] || words[lang === 'zh' ? 'en' : 'zh'] || ''
}

const DECIMALS: Record<string, number> = {
  MPa: 2, 'm3/h': 1, 'm³/h': 1, Hz: 1, A: 1, V: 0, kW: 1, kWh: 0, '%': 0, 'm/s': 2, m: 2, '°C': 1, B: 0, '': 0,
}
const NICE: Record<string, string> = { 'm3/h': 'm³/h', degC: '°C', C: '°C', bytes: 'B' }

export const unitText = (unit: string | null | undefined): string => (unit ? (NICE[unit] ?? unit) : '')

/** A number with the decimals usual for its unit; thousands by a thin space. An em dash when there is none. */
export function number(value: number | null | undefined, unit = '', decimals?: number): string {
  if (value === null || value === undefined || Number.isNaN(value)) return '—'
  let places = decimals ?? DECIMALS[unit] ?? 2
  if (decimals === undefined && DECIMALS[unit] === undefined && Number.isInteger(value)) places = 0
  if (decimals === undefined && unit === '' && !Number.isInteger(value)) places = 2
  const fixed = Math.abs(value).toFixed(places)
  const [whole = '0', part] = fixed.split('.')
  const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, '\u2009') : whole
  const sign = value < 0 && Number(fixed) !== 0 ? '−' : ''
  return sign + grouped + (part === undefined ? '' : `.${part}`)
}

/** The value of a signal as text: the state's word, or the number without its unit. */
export function valueText(info: Pick<SignalInfo, 'unit' | 'texts'> | undefined, value: number | null, lang: Lang): string {
  if (value === null || Number.isNaN(value)) return '—'
  const word = info?.texts?.[String(value)]
  return word ? say(word, lang) : number(value, info?.unit ?? '')
}

/** Width of a text in pixels at 13.5 px semibold, good enough to lay out labels before they are drawn. */
export function textWidth(text: string, size = 13.5): number {
  let width = 0
  for (const c of text) {
    width += c.charCodeAt(0) > 0x2e7f ? 1 : c === ' ' || c === '\u2009' ? 0.3 : /[0-9]/.test(c) ? 0.64 : /[A-ZMmWw]/.test(c) ? 0.68 : 0.56
  }
  return width * size
}
