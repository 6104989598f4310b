/** Requests to a Vault and the form of its answers: https://developer.hashicorp.com/vault/api-docs */
import { randomUUID } from 'node:crypto'

export interface Answer {
  readonly status: number
  readonly body?: object
  /** Instead of a body in JSON. */
  readonly html?: string
  readonly headers?: Readonly<Record<string, string>>
}
export interface Question {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly body: Record<string, unknown>
  readonly token: string | undefined
  readonly namespace: string | undefined
}

export const ok = (data: object, more: object = {}): Answer => ({
  status: 200,
  body: {
    request_id: randomUUID(),
    lease_id: '',
    renewable: false,
    lease_duration: 0,
    data,
    wrap_info: null,
    warnings: null,
    auth: null,
    ...more,
  },
})
/** api-docs#error-response */
export const fail = (status: number, ...errors: string[]): Answer => ({ status, body: { errors } })
