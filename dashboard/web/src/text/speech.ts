/** What most components need: language, clock, words and numbers. */

import { computed, type ComputedRef } from 'vue'
import { useI18n } from 'vue-i18n'
import { Problem } from '@/api/client'
import type { Lang, Words } from '@/api/types'
import { useLink } from '@/stores/link'
import { useSite } from '@/stores/site'
import { useUi } from '@/stores/ui'
import { clockOf, duration, type Clock } from '@/text/time'
import { say } from '@/text/words'

export interface Speech {
  t: (key: string, named?: Record<string, unknown>) => string
  /** Translation of a word of the API (a role, a state); the word itself when there is none. */
  tw: (group: string, word: string | null | undefined) => string
  say: (words: Words) => string
  lang: ComputedRef<Lang>
  clock: ComputedRef<Clock>
  now: ComputedRef<number>
  since: (ms: number) => string
  problem: (error: unknown) => string
}

export function useSpeech(): Speech {
  const { t, te } = useI18n()
  const ui = useUi()
  const link = useLink()
  const site = useSite()
  const lang = computed(() => ui.lang)
  const say_ = (words: Words): string => say(words, ui.lang)
  const translate = (key: string, named?: Record<string, unknown>): string => (named ? t(key, named) : t(key))
  return {
    t: translate,
    tw: (group, word) => (!word ? '' : te(`${group}.${word}`) ? t(`${group}.${word}`) : word),
    say: say_,
    lang,
    clock: computed(() => clockOf(ui.lang, site.zone)),
    now: computed(() => link.nowMs),
    since: (ms) => duration(link.nowMs - ms, t('unit.day')),
    problem: (error) => {
      if (!(error instanceof Problem)) return t('problem.unknown')
      const key = `problem.${error.code.replace(/[^a-z0-9_]/gi, '_')}`
      if (te(key)) return t(key)
      const byStatus = `problem.http_${error.status}`
      return te(byStatus) ? t(byStatus) : error.detail || t('problem.unknown')
    },
  }
}
