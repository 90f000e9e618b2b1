/** Times and durations as people in a watch room read them. All input is UTC milliseconds. */

const pad = (n: number): string => String(n).padStart(2, '0')

/** 00:42, 21:40, 1:28:34; from two days on "3 d". Negative input counts as zero. */
export function duration(ms: number, dayWord = 'd'): string {
  const s = Math.max(0, Math.floor(ms / 1000))
  if (s >= 172_800) return `${Math.floor(s / 86_400)} ${dayWord}`
  const h = Math.floor(s / 3600), m = Math.floor((s % 3600) / 60)
  return h > 0 ? `${h}:${pad(m)}:${pad(s % 60)}` : `${pad(m)}:${pad(s % 60)}`
}

/** Age of a value: 0.4 s, 12 s, 3 min, 2 h. */
export function age(ms: number): string {
  const s = Math.max(0, ms) / 1000
  if (s < 10) return `${s.toFixed(1)} s`
  if (s < 120) return `${Math.round(s)} s`
  if (s < 7200) return `${Math.round(s / 60)} min`
  if (s < 172_800) return `${Math.round(s / 3600)} h`
  return `${Math.round(s / 86_400)} d`
}

const formats = new Map<string, Intl.DateTimeFormat>()

function format(locale: string, zone: string, name: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${locale}|${zone}|${name}`
  let found = formats.get(key)
  if (!found) formats.set(key, (found = new Intl.DateTimeFormat(locale, { timeZone: zone, hourCycle: 'h23', ...options })))
  return found
}

export interface Clock {
  time(ms: number): string
  minute(ms: number): string
  date(ms: number): string
  /** Time today, date and time otherwise. */
  moment(ms: number, nowMs: number): string
  full(ms: number): string
  isSameDay(a: number, b: number): boolean
}

/** A clock of the site: everything is shown in the site's zone, not the browser's. */
export function clockOf(lang: string, zone: string): Clock {
  const locale = lang === 'zh' ? 'zh-CN' : 'en-GB'
  const time = format(locale, zone, 'time', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
  const minute = format(locale, zone, 'minute', { hour: '2-digit', minute: '2-digit' })
  const date = format(locale, zone, 'date', { weekday: 'short', day: 'numeric', month: lang === 'zh' ? 'long' : 'short' })
  const day = format(locale, zone, 'day', { day: '2-digit', month: '2-digit' })
  const whole = format('sv-SE', zone, 'whole', { year: 'numeric', month: '2-digit', day: '2-digit' })
  const dayText = (ms: number): string => day.format(ms).replace('/', '-')
  const clock: Clock = {
    time: (ms) => time.format(ms),
    minute: (ms) => minute.format(ms),
    date: (ms) => (lang === 'zh' ? date.format(ms).replace(/日(?=\S)/, '日 ') : date.format(ms).replace(',', '')),
    moment: (ms, nowMs) => (clock.isSameDay(ms, nowMs) ? time.format(ms) : `${dayText(ms)} ${minute.format(ms)}`),
    full: (ms) => `${whole.format(ms)} ${time.format(ms)}`,
    isSameDay: (a, b) => whole.format(a) === whole.format(b),
  }
  return clock
}
