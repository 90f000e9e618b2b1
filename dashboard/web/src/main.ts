import './styles/font.css'
import './styles/tokens.css'
import './styles/shell.css'
import { createPinia } from 'pinia'
import { createApp } from 'vue'
import App from './App.vue'
import { i18n, prepare, speak } from './i18n'
import { router } from './router'
import { useUi } from './stores/ui'

const pinia = createPinia()
const { lang } = useUi(pinia)
await speak(lang)
createApp(App).use(pinia).use(i18n).use(router).mount('#app')
setTimeout(() => void prepare(lang === 'zh' ? 'en' : 'zh'), 3000)
