/** How this screen looks and what it tells its user. */

import { defineStore } from 'pinia'
import { ref, watch } from 'vue'
import type { Lang } from '@/api/types'
import { speak } from '@/i18n'

export type Theme = 'day' | 'night'

export interface Notice {
  id: number
  text: string
  isProblem: boolean
}

function stored<T extends string>(name: string, allowed: readonly T[], fallback: T): T {
  const value = localStorage.getItem(`watchroom.${name}`) as T | null
  return value !== null && allowed.includes(value) ? value : fallback
}

const browserLang = (): Lang => (navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en')

export const useUi = defineStore('ui', () => {
  const lang = ref<Lang>(stored('lang', ['zh', 'en'], browserLang()))
  const theme = ref<Theme>(stored('theme', ['day', 'night'], matchMedia('(prefers-color-scheme: dark)').matches ? 'night' : 'day'))
  const notices = ref<Notice[]>([])
  const isHelpOpen = ref(false)
  let counter = 0

  watch(lang, (value) => {
    localStorage.setItem('watchroom.lang', value)
    void speak(value)
  })

  watch(theme, (value) => {
    localStorage.setItem('watchroom.theme', value)
    document.documentElement.dataset['theme'] = value
    document.querySelector('meta[name=theme-color]')?.setAttribute('content', value === 'night' ? '#1b1d1f' : '#d5d7d9')
  }, { immediate: true })

  /** A language chosen on this screen wins over the account's. */
  const hasChosenLang = (): boolean => localStorage.getItem('watchroom.lang.chosen') === '1'
  function chooseLang(value: Lang): void {
    localStorage.setItem('watchroom.lang.chosen', '1')
    lang.value = value
  }

  function tell(text: string, isProblem = false): void {
    const id = ++counter
    notices.value = [...notices.value.slice(-2), { id, text, isProblem }]
    setTimeout(() => dismiss(id), isProblem ? 9000 : 4500)
  }

  function dismiss(id: number): void {
    notices.value = notices.value.filter((notice) => notice.id !== id)
  }

  return { lang, theme, notices, isHelpOpen, hasChosenLang, chooseLang, tell, dismiss }
})
