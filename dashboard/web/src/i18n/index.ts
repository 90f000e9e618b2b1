import { createI18n } from 'vue-i18n'
import type { Lang } from '@/api/types'

type Texts = { [name: string]: string | Texts }
type Filled = (context: { named(name: string): unknown }) => string
type Ready = { [name: string]: string | Filled | Ready }

export const i18n = createI18n({ legacy: false, locale: 'zh', fallbackLocale: ['en', 'zh'], messages: {} as Record<Lang, Ready> })

const LOADERS: Record<Lang, () => Promise<{ default: Texts }>> = {
  zh: () => import('./zh.json'),
  en: () => import('./en.json'),
}

/** Make a language present and speak it. */
export async function speak(lang: Lang): Promise<void> {
  await load(lang)
  i18n.global.locale.value = lang
  document.documentElement.lang = lang === 'zh' ? 'zh-CN' : 'en'
}

/** Fetch the other language beforehand: nothing can be loaded while the connection is lost. */
export const prepare = (lang: Lang): Promise<void> => load(lang).catch(() => {})

async function load(lang: Lang): Promise<void> {
  if (!i18n.global.availableLocales.includes(lang)) i18n.global.setLocaleMessage(lang, ready((await LOADERS[lang]()).default))
}

/** Our texts know only named gaps: a function that fills them spares every page the message compiler. */
export function ready(texts: Texts): Ready {
  return Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, typeof text === 'string' ? filled(text) : ready(text)]))
}

function filled(text: string): Filled {
  return (context) => text.replace(/\{(\w+)\}/g, (_, name: string) => String(context.named(name) ?? ''))
}
