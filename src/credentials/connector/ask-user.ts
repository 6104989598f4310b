import { refuse } from '#errors'
import type { CredentialRequest } from './connector.ts'

/** Makes the link on which the user gives a server these scopes. */
export type ConnectUrl = (request: CredentialRequest, scopes: readonly string[]) => Promise<string>

/**
 * Sends the user to the connect page.
 * @param problem why what there was counts no more, for `reconnect_required`
 * @throws DeputyError `interaction_required`, `reconnect_required`, with the link
 */
export const askUser = async (
  connectUrl: ConnectUrl,
  { request, scopes }: { readonly request: CredentialRequest; readonly scopes: readonly string[] },
  code: 'interaction_required' | 'reconnect_required',
  problem = '',
): Promise<never> => {
  const { downstream, server } = request
  throw refuse(code, {
    downstream: downstream.name ?? downstream.downstream,
    server: server.name ?? server.server,
    problem,
    connect_url: await connectUrl(request, scopes),
  })
}
