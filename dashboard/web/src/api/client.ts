/** The one door to the HTTP API. Errors are RFC 9457 problems with a code that both languages translate. */

export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
  ) {
    super(detail || code)
    this.name = 'Problem'
  }
}

const ROOT = '/api/v1'
const TIMEOUT_MS = 10_000

type Query = Record<string, string | number | undefined>

interface Options {
  query?: Query
  body?: unknown
  idempotencyKey?: string
  signal?: AbortSignal
}

export function pathOf(path: string, query: Query = {}): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== '') search.set(name, String(value))
  }
  const text = search.toString()
  return ROOT + path + (text ? `?${text}` : '')
}

async function problemOf(reply: Response): Promise<Problem> {
  let code = '', detail = ''
  try {
    const body = (await reply.json()) as { code?: unknown; detail?: unknown; title?: unknown }
    code = typeof body.code === 'string' ? body.code : ''
    detail = typeof body.detail === 'string' ? body.detail : typeof body.title === 'string' ? body.title : ''
  } catch {
    // a proxy's HTML page: the status alone must do
  }
  return new Problem(reply.status, code || `http_${reply.status}`, detail)
}

async function call<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const headers: Record<string, string> = { Accept: 'application/json' }
  if (options.body !== undefined) headers['Content-Type'] = 'application/json'
  if (options.idempotencyKey !== undefined) headers['Idempotency-Key'] = options.idempotencyKey
  const timeout = AbortSignal.timeout(TIMEOUT_MS)
  let reply: Response
  try {
    reply = await fetch(pathOf(path, options.query), {
      method,
      headers,
      credentials: 'same-origin',
      signal: options.signal ? AbortSignal.any([options.signal, timeout]) : timeout,
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    })
  } catch (cause) {
    if (options.signal?.aborted) throw cause
    throw new Problem(0, 'unreachable', '')
  }
  if (!reply.ok) throw await problemOf(reply)
  return (reply.status === 204 ? undefined : await reply.json()) as T
}

export const api = {
  get: <T>(path: string, query?: Query, signal?: AbortSignal) =>
    call<T>('GET', path, { ...(query && { query }), ...(signal && { signal }) }),
  post: <T>(path: string, body: unknown = {}, idempotencyKey?: string) =>
    call<T>('POST', path, { body, ...(idempotencyKey && { idempotencyKey }) }),
  delete: <T>(path: string) => call<T>('DELETE', path),
}

/** A key that makes a repeated command one command. */
export function newKey(): string {
  // crypto.randomUUID exists only on HTTPS and localhost; a watch room often uses a bare LAN address
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID()
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('')
}
