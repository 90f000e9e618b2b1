/// <reference types="vitest/config" />
import { fileURLToPath } from 'node:url'
import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vite'
import { licences } from './licences.ts'

const api = process.env['WATCHROOM_API'] ?? 'http://127.0.0.1:8080'

export default defineConfig({
  plugins: [vue(), licences()],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  define: {
    __VUE_OPTIONS_API__: 'false',
    __VUE_PROD_DEVTOOLS__: 'false',
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: 'false',
    __VUE_I18N_LEGACY_API__: 'false',
    __VUE_I18N_FULL_INSTALL__: 'false',
    __INTLIFY_PROD_DEVTOOLS__: 'false',
    __INTLIFY_DROP_MESSAGE_COMPILER__: 'true',
  },
  build: { outDir: '../static', emptyOutDir: true, target: 'es2022', assetsInlineLimit: 2048 },
  server: { proxy: { '/api': { target: api, ws: true }, '/health': api, '/metrics': api } },
  test: { environment: 'happy-dom', include: ['tests/**/*.test.ts'] },
})
