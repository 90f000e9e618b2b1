import { createRouter, createWebHistory } from 'vue-router'
import { useSession } from './stores/session'

declare module 'vue-router' {
  interface RouteMeta {
    isPublic?: boolean
    /** Key of the page's name in `nav.` */
    name?: string
  }
}

export const router = createRouter({
  history: createWebHistory(),
  routes: [
    { path: '/', component: () => import('./pages/OverviewPage.vue'), meta: { name: 'overview' } },
    { path: '/sign-in', component: () => import('./pages/SignInPage.vue'), meta: { isPublic: true } },
    { path: '/setup', component: () => import('./pages/SetupPage.vue'), meta: { isPublic: true } },
    { path: '/alarms', component: () => import('./pages/AlarmsPage.vue'), meta: { name: 'alarms' } },
    { path: '/measures', component: () => import('./pages/MeasuresPage.vue'), meta: { name: 'alarms' } },
    { path: '/tickets', component: () => import('./pages/TicketsPage.vue'), meta: { name: 'tickets' } },
    { path: '/tickets/:id', component: () => import('./pages/TicketPage.vue'), props: true, meta: { name: 'tickets' } },
    { path: '/access', component: () => import('./pages/AccessPage.vue'), meta: { name: 'access' } },
    { path: '/equipment', component: () => import('./pages/EquipmentListPage.vue'), meta: { name: 'equipment' } },
    { path: '/equipment/:id', component: () => import('./pages/EquipmentPage.vue'), props: true, meta: { name: 'equipment' } },
    { path: '/:rest(.*)', component: () => import('./pages/NotFoundPage.vue') },
  ],
})

router.beforeEach(async (to) => {
  if (to.meta.isPublic) return true
  const session = useSession()
  const isIn = session.isKnown ? session.user !== null : await session.load().catch(() => session.user !== null)
  return isIn || { path: '/sign-in', query: to.fullPath === '/' ? {} : { to: to.fullPath } }
})
