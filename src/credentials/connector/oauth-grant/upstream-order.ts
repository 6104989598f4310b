import { z } from 'zod'
import type { EndingTokens } from '#credentials/provider'
import { type Envelope, openProofKey, proofKeyText, Secret } from '#foundation/crypto'
import type { UpstreamRevocation } from '#foundation/store'

/** Tokens that a provider is to end. */
export interface UpstreamOrder {
  readonly tokens: EndingTokens
  readonly downstream: string
  /** The user of the grant; orders of earlier versions do not name one. */
  readonly user?: string | undefined
}

/** An order as it waits, sealed. Earlier versions wrote a list: the refresh token, if there was one, and the access token. */
const orderSchema = z.strictObject({
  tokens: z.union([
    z.strictObject({
      refresh_token: z.string().optional(),
      access_token: z.string(),
      proof_key: z.string().optional(),
    }),
    z
      .array(z.string())
      .min(1)
      .transform((tokens) => ({
        refresh_token: tokens.length > 1 ? tokens[0] : undefined,
        access_token: tokens.at(-1)!,
        proof_key: undefined,
      })),
  ]),
  downstream: z.string(),
  user: z.string().optional(),
})

type Named = Pick<UpstreamRevocation, 'tenant' | 'id'>

const nameOf = ({ tenant, id }: Named) => ({ tenant, kind: 'upstream-revocation', id })

export const sealOrder = (
  envelope: Envelope,
  name: Named,
  { tokens: { refreshToken, accessToken, proofKey }, downstream, user }: UpstreamOrder,
): Promise<Uint8Array> => {
  const order: z.input<typeof orderSchema> = {
    tokens: {
      refresh_token: refreshToken?.reveal(),
      access_token: accessToken.reveal(),
      proof_key: proofKey === undefined ? undefined : proofKeyText(proofKey).reveal(),
    },
    downstream,
    user,
  }
  return envelope.seal(nameOf(name), new Secret(JSON.stringify(order)))
}

/** @throws DeputyError `secret_unreadable` */
export const openOrder = async (
  envelope: Envelope,
  entry: Named & { readonly sealed: Uint8Array },
): Promise<UpstreamOrder> => {
  const text = (await envelope.open(nameOf(entry), entry.sealed)).reveal()
  const { tokens, downstream, user } = orderSchema.parse(JSON.parse(text))
  return {
    tokens: {
      refreshToken: tokens.refresh_token === undefined ? undefined : new Secret(tokens.refresh_token),
      accessToken: new Secret(tokens.access_token),
      proofKey: tokens.proof_key === undefined ? undefined : await openProofKey(new Secret(tokens.proof_key)),
    },
    downstream,
    user,
  }
}
