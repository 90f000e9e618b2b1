import { describe, expect, it } from 'vitest'
import type { Series } from '@/api/types'
import { append, columnsOf, SILENCE_MS } from '@/chart/gaps'
import { age, clockOf, duration } from '@/text/time'
import { number, say, valueText } from '@/text/words'

describe('times', () => {
  it('are shown in the zone of the site, not of the browser', () => {
    const ms = Date.UTC(2026, 10, 22, 14, 41, 7)
    expect(clockOf('zh', 'Asia/Shanghai').time(ms)).toBe('22:41:07')
    expect(clockOf('en', 'Europe/Berlin').time(ms)).toBe('15:41:07')
  })

  it('carry a date as soon as it is another day at the site', () => {
    const clock = clockOf('en', 'Asia/Shanghai')
    const now = Date.UTC(2026, 10, 22, 16, 30)
    expect(clock.moment(Date.UTC(2026, 10, 22, 16, 5), now)).toBe('00:05:00')
    expect(clock.moment(Date.UTC(2026, 10, 22, 15, 5), now)).toContain('23:05')
    expect(clock.moment(Date.UTC(2026, 10, 22, 15, 5), now)).toContain('22')
  })

  it('count up in minutes and seconds, then hours, then days', () => {
    expect([42_000, 1_300_000, 5_314_000, 3 * 86_400_000, -5].map((ms) => duration(ms, 'd'))).toEqual(['00:42', '21:40', '1:28:34', '3 d', '00:00'])
    expect([400, 12_000, 200_000, 9_000_000].map(age)).toEqual(['0.4 s', '12 s', '3 min', '3 h'])
  })
})

describe('numbers', () => {
  it('have the decimals of their unit and a true minus', () => {
    expect(number(0.3123, 'MPa')).toBe('0.31')
    expect(number(-0.09, 'MPa')).toBe('−0.09')
    expect(number(-0.001, 'MPa')).toBe('0.00')
    expect(number(12345.6, 'kWh')).toBe('12\u2009346')
    expect(number(null)).toBe('—')
    expect(number(NaN, 'V')).toBe('—')
  })

  it('of a state are its word in the language of the reader', () => {
    const info = { unit: '', texts: { '1': { zh: '运行', en: 'running' } } }
    expect(valueText(info, 1, 'zh')).toBe('运行')
    expect(valueText(info, 2, 'en')).toBe('2')
    expect(say({ zh: '门', en: '' }, 'en')).toBe('门')
  })
})

describe('a trend line', () => {
  const series = (t: number[], mean: (number | null)[]): Series => ({ key: 'a', t, mean, min: mean, max: mean, last: mean, count: t.map(() => 1) })

  it('runs on through empty buckets, because a value that does not change is not sent', () => {
    const [t, mean] = columnsOf(series([0, 10_000, 20_000], [1, null, 2]), 10_000, false)
    expect(t).toEqual([0, 20])
    expect(mean).toEqual([1, 2])
  })

  it('breaks where nothing came for longer than the longest silence', () => {
    const [t, mean] = columnsOf(series([0, SILENCE_MS + 60_000], [1, 2]), 10_000, false)
    expect(t).toHaveLength(3)
    expect(mean).toEqual([1, null, 2])
  })

  it('goes on with live samples and ends with an unusable one', () => {
    const columns = columnsOf(series([0, 1000], [1, 2]), 1000, false)
    append(columns, 2000, 3)
    append(columns, 1500, 9)
    append(columns, 3000, null)
    expect(columns[1]).toEqual([1, 2, 3, null])
  })
})
