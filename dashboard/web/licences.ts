import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Plugin } from 'vite'

/** Packages whose code or font ends up in the pages; their notices must travel with them. */
const SHIPPED = ['vue', 'vue-router', 'pinia', 'vue-i18n', 'uplot', '@lucide/vue', '@fontsource-variable/inter']

function notice(name: string): string {
  const folder = join(import.meta.dirname, 'node_modules', name)
  const about = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string; license?: string }
  const file = existsSync(folder) ? readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry)) : undefined
  const text = file === undefined ? '' : readFileSync(join(folder, file), 'utf8')
  return `${name} ${about.version} (${about.license ?? 'see below'})\n\n${text.trim()}\n`
}

/** Write THIRD_PARTY_LICENSES.txt next to the built pages. */
export function licences(): Plugin {
  return {
    name: 'watchroom-licences',
    apply: 'build',
    generateBundle() {
      const line = `\n${'-'.repeat(80)}\n\n`
      this.emitFile({ type: 'asset', fileName: 'THIRD_PARTY_LICENSES.txt', source: SHIPPED.map(notice).join(line) })
    },
  }
}
