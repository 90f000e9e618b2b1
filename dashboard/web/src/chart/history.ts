/** History of a few signals over a moving window, fetched per view and refreshed. */

import { type MaybeRefOrGetter, onScopeDispose, ref, type Ref, shallowRef, type ShallowRef, toValue, watch } from 'vue'
import { api } from '@/api/client'
import type { Series } from '@/api/types'
import { useLink } from '@/stores/link'

export interface History {
  series: ShallowRef<Map<string, Series>>
  window: ShallowRef<[number, number]>
  hasFailed: Ref<boolean>
  isLoading: Ref<boolean>
}

/**
 * @param keys signal keys; unknown ones are left out
 * @param spanMs width of the window that ends now
 * @param buckets number of min/max/mean buckets, about one a pixel
 * @param everyMs how often it is fetched again
 */
export function useHistory(
  keys: MaybeRefOrGetter<readonly string[]>, spanMs: MaybeRefOrGetter<number>, buckets: number, everyMs: MaybeRefOrGetter<number>,
): History {
  const link = useLink()
  const series = shallowRef(new Map<string, Series>())
  const window_ = shallowRef<[number, number]>([0, 0])
  const hasFailed = ref(false)
  const isLoading = ref(false)
  let timer: ReturnType<typeof setTimeout> | undefined
  let running: AbortController | undefined

  async function load(): Promise<void> {
    clearTimeout(timer)
    running?.abort()
    const mine = (running = new AbortController())
    const end = link.nowMs, start = end - toValue(spanMs)
    isLoading.value = true
    try {
      const found = await Promise.all(toValue(keys).map((key) =>
        api.get<Series>(`/signals/${key.split('/').map(encodeURIComponent).join('/')}/history`, { start: Math.round(start), end: Math.round(end), buckets }, mine.signal)))
      if (mine.signal.aborted) return
      series.value = new Map(found.map((one) => [one.key, one]))
      window_.value = [start, end]
      hasFailed.value = false
    } catch {
      if (mine.signal.aborted) return
      hasFailed.value = true
    }
    isLoading.value = false
    timer = setTimeout(() => void load(), toValue(everyMs))
  }

  watch(() => [toValue(keys).join(' '), toValue(spanMs)], () => void load(), { immediate: true })
  onScopeDispose(() => {
    clearTimeout(timer)
    running?.abort()
  })
  return { series, window: window_, hasFailed, isLoading }
}
