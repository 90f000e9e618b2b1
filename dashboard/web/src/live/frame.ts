/** Binary signal frames of the live connection: little-endian, magic WRS1. */

const MAGIC = 0x31535257
const HEAD = 24
export const STALE = 255

export interface SignalFrame {
  indexEpoch: number
  serverMs: number
  value: Float64Array
  timeMs: Float64Array
  index: Uint32Array
  quality: Uint8Array
}

/** Read one frame; null when it is not a whole frame of a version we know. */
export function decodeFrame(buffer: ArrayBuffer): SignalFrame | null {
  if (buffer.byteLength < HEAD) return null
  const head = new DataView(buffer)
  if (head.getUint32(0, true) !== MAGIC) return null
  const n = head.getUint32(8, true)
  if (buffer.byteLength < HEAD + n * 21) return null
  return {
    indexEpoch: head.getUint32(4, true),
    serverMs: head.getFloat64(16, true),
    value: new Float64Array(buffer, HEAD, n),
    timeMs: new Float64Array(buffer, HEAD + 8 * n, n),
    index: new Uint32Array(buffer, HEAD + 16 * n, n),
    quality: new Uint8Array(buffer, HEAD + 20 * n, n),
  }
}
