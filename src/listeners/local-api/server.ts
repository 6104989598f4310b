import { Secret } from '#foundation/crypto'
import { Form, sendJson } from '#listeners/http'
import { parsePresentation } from './presentation.ts'
import { type Endpoint, formOf, type LocalApiDependencies, originOf } from './endpoint.ts'

type Dependencies = Pick<LocalApiDependencies, 'serverView' | 'snapshot' | 'peer'>

/**
 * `/server`: the caller's registration. GET for a caller that needs no parameters to authenticate, POST for one that does.
 */
export const serverEndpoint =
  ({ serverView, snapshot, peer }: Dependencies): Endpoint =>
  async (request, response, correlationId) => {
    const form = request.method === 'GET' ? new Form(new Map()) : await formOf(request, { snapshot })
    sendJson(response, 200, await serverView.describe(await originOf(request, form, { correlationId, peer })))
  }

/** `POST /tools`: the tools of the caller that a user may call. */
export const toolsEndpoint =
  ({ serverView, snapshot, peer }: Dependencies): Endpoint =>
  async (request, response, correlationId) => {
    const form = await formOf(request, { snapshot })
    const origin = await originOf(request, form, { correlationId, peer })
    sendJson(
      response,
      200,
      await serverView.tools(origin, new Secret(form.required('subject_token')), parsePresentation(form)),
      {
        'X-Correlation-Id': correlationId,
      },
    )
  }
