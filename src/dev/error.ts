/** A development world cannot start or be found, and what to do about it. */
export class DevError extends Error {
  override readonly name = 'DevError'
  readonly next: string
  constructor(message: string, next: string) {
    super(message)
    this.next = next
  }
}
