/** Something wrong in a document or in the file that names its operations. */
export interface ApiProblem {
  /** Where in the file of the API. */
  readonly at: readonly (string | number)[]
  /** Where in the document, as a JSON pointer. */
  readonly pointer?: string
  readonly message: string
  /** What to write instead. */
  readonly fix: string
}

/** Why a document cannot be read. */
export class DocumentError extends Error {
  override readonly name = 'DocumentError'
  readonly fix: string
  readonly pointer: string | undefined
  constructor(message: string, fix: string, pointer?: string) {
    super(message)
    this.fix = fix
    this.pointer = pointer
  }
}
