import { Secret } from '#foundation/crypto'
import { sendJson } from '#listeners/http'
import { parsePresentation } from './presentation.ts'
import { type Endpoint, formOf, type LocalApiDependencies, originOf } from './endpoint.ts'

type Dependencies = Pick<LocalApiDependencies, 'tokens' | 'snapshot' | 'peer'>

/** `POST /oauth2/introspect` (RFC 7662). */
export const introspectionEndpoint =
  ({ tokens, snapshot, peer }: Dependencies): Endpoint =>
  async (request, response, correlationId) => {
    const form = await formOf(request, { snapshot })
    const origin = await originOf(request, form, { correlationId, peer })
    sendJson(
      response,
      200,
      await tokens.introspect(origin, new Secret(form.required('token')), parsePresentation(form)),
    )
  }

/** `POST /oauth2/revoke` (RFC 7009). */
export const revocationEndpoint =
  ({ tokens, snapshot, peer }: Dependencies): Endpoint =>
  async (request, response, correlationId) => {
    const form = await formOf(request, { snapshot })
    const origin = await originOf(request, form, { correlationId, peer })
    await tokens.revoke(origin, new Secret(form.required('token')))
    sendJson(response, 200, {})
  }
