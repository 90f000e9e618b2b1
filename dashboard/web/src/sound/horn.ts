/** The horn: priority 1 two tones without pause, priority 2 three beeps each ten seconds. No sound files. */

export type HornState = 'off' | 'blocked' | 'on' | 'elsewhere'

type Note = { at: number; hz: number; s: number }

const P1: Note[] = [{ at: 0, hz: 800, s: 0.42 }, { at: 0.5, hz: 1000, s: 0.42 }]
const P2: Note[] = [0, 0.28, 0.56].map((at) => ({ at, hz: 740, s: 0.16 }))
const PATTERN = { 1: { notes: P1, everyS: 1 }, 2: { notes: P2, everyS: 10 } } as const

export class Horn {
  private context: AudioContext | null = null
  private playing: 1 | 2 | null = null
  private timer: ReturnType<typeof setInterval> | undefined
  private isLeader = false

  /** @param onState told the true state of the sound whenever it may have changed */
  constructor(private readonly onState: (state: HornState) => void) {
    this.lead()
  }

  /** Must be called from a click or key press: browsers start sound only then. */
  async arm(): Promise<void> {
    if (typeof AudioContext === 'undefined') return this.tell()
    if (!this.context) {
      this.context = new AudioContext()
      this.context.addEventListener('statechange', () => this.tell())
    }
    await this.context.resume().catch(() => {})
    this.tell()
  }

  get state(): HornState {
    if (!this.context) return 'off'
    if (this.context.state !== 'running') return 'blocked'
    return this.isLeader ? 'on' : 'elsewhere'
  }

  /** Sound for the most urgent unacknowledged priority; null is silence. */
  sound(priority: 1 | 2 | null): void {
    if (priority === this.playing) return
    this.playing = priority
    clearInterval(this.timer)
    if (priority === null) return
    this.once(priority)
    this.timer = setInterval(() => this.once(priority), PATTERN[priority].everyS * 1000)
  }

  /** A short test tone, so that "sound on" is something one has heard. */
  test(): void {
    this.play([{ at: 0, hz: 660, s: 0.12 }, { at: 0.16, hz: 880, s: 0.12 }])
  }

  private once(priority: 1 | 2): void {
    if (this.isLeader) this.play(PATTERN[priority].notes)
  }

  private play(notes: readonly Note[]): void {
    const context = this.context
    if (context?.state !== 'running') return
    for (const { at, hz, s } of notes) {
      const start = context.currentTime + 0.02 + at
      const tone = context.createOscillator()
      const gain = context.createGain()
      tone.frequency.value = hz
      tone.type = 'triangle'
      gain.gain.setValueAtTime(0, start)
      gain.gain.linearRampToValueAtTime(0.5, start + 0.015)
      gain.gain.setValueAtTime(0.5, start + s - 0.03)
      gain.gain.linearRampToValueAtTime(0, start + s)
      tone.connect(gain).connect(context.destination)
      tone.start(start)
      tone.stop(start + s + 0.02)
    }
  }

  /** Of several tabs only the one that holds the lock sounds; when it closes the next takes over. */
  private lead(): void {
    if (!('locks' in navigator)) {
      this.isLeader = true // plain HTTP has no locks: better two horns than none
      return
    }
    void navigator.locks.request('watchroom-horn', () => {
      this.isLeader = true
      this.tell()
      return new Promise<void>(() => {})
    })
  }

  private tell(): void {
    this.onState(this.state)
  }
}
