/** Function keys. The page that was opened last answers first; what it leaves goes to the frame. */

import { onMounted, onUnmounted } from 'vue'

export type KeyMap = Record<string, () => void>
const stack: KeyMap[] = []

export function useKeys(map: KeyMap): void {
  onMounted(() => stack.push(map))
  onUnmounted(() => {
    const at = stack.indexOf(map)
    if (at >= 0) stack.splice(at, 1)
  })
}

export function handleKey(event: KeyboardEvent): void {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return
  if (document.querySelector('dialog[open]') && event.key !== 'F3') return
  const isTyping = event.target instanceof HTMLElement && event.target.matches('input, textarea, select')
  // single letters and arrows belong to the field; function keys work everywhere, also inside an input method
  if (isTyping && !/^F\d+$/.test(event.key)) return
  // the space bar belongs to the button that has the focus, unless it is a row
  if (event.key === ' ' && event.target instanceof HTMLElement && event.target.matches('button:not(.row), a, summary')) return
  for (let i = stack.length - 1; i >= 0; i--) {
    const run = stack[i]?.[event.key]
    if (run) {
      event.preventDefault()
      run()
      return
    }
  }
}
