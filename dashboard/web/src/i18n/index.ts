import { createI18n } from 'vue-i18n'
import type { Lang } from '@/api/types'
import type zh from './zh.json'

type Texts = typeof zh

export const i18n = createI18n({ legacy: false, locale: 'zh', fallbackLocale: ['en', 'zh'], messages: {} as Record<Lang, Texts> })

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
  if (!i18n.global.availableLocales.includes(lang)) i18n.global.setLocaleMessage(lang, (await LOADERS[lang]()).default)
}
