/** Why an operation cannot be a tool. */
export class OperationError extends Error {
  override readonly name = 'OperationError'
  readonly fix: string
  constructor(message: string, fix: string) {
    super(message)
    this.fix = fix
  }
}
