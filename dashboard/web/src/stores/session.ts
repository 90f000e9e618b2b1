/** Who sits here. */

import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import { api, Problem } from '@/api/client'
import type { SessionReply, User } from '@/api/types'

const READ_ONLY = new Set(['committee', 'kiosk'])

export const useSession = defineStore('session', () => {
  const user = ref<User | null>(null)
  const isKnown = ref(false)
  const mayAct = computed(() => user.value !== null && !READ_ONLY.has(user.value.role))

  const mayShelve = computed(() => ['guard', 'leader', 'admin'].includes(user.value?.role ?? ''))
  /** Out of service goes by work permit: the supervisor's word. */
  const mayTakeOut = computed(() => ['leader', 'manager', 'admin'].includes(user.value?.role ?? ''))

  /** Ask once who is signed in; false when nobody is. */
  async function load(): Promise<boolean> {
    try {
      user.value = (await api.get<SessionReply>('/session')).user
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 401) throw error
      user.value = null
    }
    isKnown.value = true
    return user.value !== null
  }

  async function signIn(username: string, password: string): Promise<void> {
    user.value = (await api.post<SessionReply>('/session', { username, password })).user
    isKnown.value = true
  }

  async function setUp(token: string, username: string, display: string, password: string): Promise<void> {
    await api.post('/setup', { token, username, display, password })
    await signIn(username, password)
  }

  async function changePassword(old: string, fresh: string): Promise<void> {
    await api.post('/session/password', { old, new: fresh })
  }

  async function signOut(): Promise<void> {
    await api.delete('/session').catch(() => {})
    user.value = null
  }

  return { user, isKnown, mayAct, mayShelve, mayTakeOut, load, signIn, setUp, changePassword, signOut }
})
