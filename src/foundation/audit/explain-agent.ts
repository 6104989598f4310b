import { z } from 'zod'
import type { RecordView } from './explain.ts'

const detailSchema = z.looseObject({
  client: z.string().optional().catch(undefined),
  how: z.string().optional().catch(undefined),
  scopes: z.array(z.string()).optional().catch(undefined),
  proof: z.looseObject({ issuer: z.string(), subject: z.string() }).optional().catch(undefined),
})

const HOW: Readonly<Record<string, string>> = {
  client_secret: 'its secret',
  private_key_jwt: 'its key',
  token: 'a token of another issuer',
}

/** What the record of a token for an agent says: the agent, the server, the scopes, and how the agent proved who it is. */
export const tellAgentToken = ({ outcome, tenant, server, record }: RecordView): string[] => {
  const { client, how, scopes = [], proof } = detailSchema.safeParse(record.detail).data ?? {}
  const by =
    proof === undefined
      ? (HOW[how ?? ''] ?? 'nothing that was recorded')
      : `a token of ${proof.issuer} for ${proof.subject}`
  const [agent, target] = [client ?? 'unknown', server ?? 'a server']
  return [
    outcome === 'issued'
      ? `The agent ${agent} of ${tenant} got a token for ${target} with ${scopes.length === 0 ? 'no scopes' : scopes.join(' ')}.`
      : `The agent ${agent} of ${tenant} got no token for ${target}.`,
    `It proved who it is by ${by}.`,
  ]
}
