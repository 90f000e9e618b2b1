import { createI18n } from 'vue-i18n'
import en from './en.json'
import zh from './zh.json'

/** Both languages travel with the page: nothing can be loaded while the connection is lost. */
export const i18n = createI18n({
  legacy: false,
  locale: 'zh',
  fallbackLocale: 'en',
  messages: { zh, en } as Record<string, typeof zh>,
})
