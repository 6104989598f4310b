import type { STSClientConfig } from '@aws-sdk/client-sts'
import type { Egress } from '#foundation/outbound'

/** A request as the SDK has signed it. */
interface SignedRequest {
  readonly method: string
  readonly protocol: string
  readonly hostname: string
  readonly port?: number
  readonly path: string
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array<ArrayBuffer>
}
export type AwsHandler = NonNullable<STSClientConfig['requestHandler']>

/** Said by the connection itself. */
const OF_CONNECTION = new Set(['host', 'content-length'])

/** How AWS SDKs reach the network: through the one way out, whose rules hold for them too. */
export const awsHandler = (egress: Egress): AwsHandler => ({
  metadata: { handlerProtocol: 'http/1.1' },
  async handle(request: SignedRequest, options?: { readonly abortSignal?: AbortSignal }) {
    const url = new URL(
      `${request.protocol}//${request.hostname}${request.port === undefined ? '' : `:${request.port}`}${request.path}`,
    )
    for (const [name, value] of Object.entries(request.query ?? {}))
      for (const each of [value ?? []].flat()) url.searchParams.append(name, each)
    const response = await egress(url, {
      method: request.method,
      headers: Object.entries(request.headers).filter(([name]) => !OF_CONNECTION.has(name.toLowerCase())),
      ...(request.body === undefined ? {} : { body: request.body }),
      ...(options?.abortSignal === undefined ? {} : { signal: options.abortSignal }),
    })
    return {
      response: {
        statusCode: response.status,
        reason: response.statusText,
        headers: Object.fromEntries(response.headers),
        body: new Uint8Array(await response.arrayBuffer()),
      },
    }
  },
  updateHttpClientConfig: () => undefined,
  httpHandlerConfigs: () => ({}),
})
