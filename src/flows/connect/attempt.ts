import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Clock, Random } from '#clock'
import { refuse } from '#errors'
import { type Envelope, randomText, Secret } from '#foundation/crypto'
import type { AttemptStore } from '#foundation/store'

/** What a user is asked to connect. It is fixed when a server requests it: the holder of the link cannot change it. */
const wishSchema = z.strictObject({
  tenant: z.string(),
  user: z.string(),
  server: z.string(),
  downstream: z.string(),
  scopes: z.array(z.string()),
  correlationId: z.string(),
  /** A claims challenge of the service, to be sent along. */
  claims: z.string().optional(),
})
export type ConnectRequest = z.output<typeof wishSchema>

/** A client's authorization request that has passed all checks and waits for the user. */
const clientRequestSchema = z.strictObject({
  /** The id of the interaction at the authorization server. */
  interaction: z.string(),
  client: z.string(),
  /** What the client calls itself. */
  name: z.string(),
  known: z.enum(['file', 'document', 'registered']),
  /** What the user can rely on about the client; absent: nothing. */
  provenBy: z.string().optional(),
  /** Of what the client is: it has to be the same until the user has decided. */
  digest: z.string(),
  /** Where the browser goes in the end; absent: the client is on another device, without a browser. */
  redirectUri: z.string().optional(),
  server: z.string(),
  scopes: z.array(z.string()),
  tenant: z.string(),
  loginHint: z.string().optional(),
  correlationId: z.string(),
})
export type ClientRequest = z.output<typeof clientRequestSchema>
/** What the authorization server says of the request that waits for the user. */
export type WaitingClient = Omit<ClientRequest, 'tenant'>

/** A user who has signed in, as the steps after it remember that. */
const signedInSchema = z.strictObject({
  user: z.string(),
  display: z.string().optional(),
  issuer: z.string(),
  groups: z.array(z.string()),
  claims: z.record(z.string(), z.unknown()),
  idToken: z.string().optional(),
  signedInAt: z.number(),
})
export type RememberedSignIn = z.output<typeof signedInSchema>

const loginWishSchema = z.strictObject({ tenant: z.string(), uid: z.number(), correlationId: z.string() })

const purposeSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('connect'), link: z.string(), wish: wishSchema }),
  z.strictObject({ kind: z.literal('login'), link: z.string(), wish: loginWishSchema }),
  z.strictObject({
    kind: z.literal('client'),
    wish: clientRequestSchema,
    /** Further tenants that sign in with the same client: the sign-in says which one it is. */
    others: z.array(z.string()).default([]),
  }),
])
export type Purpose = z.output<typeof purposeSchema>

/**
 * The steps of a flow through the browser. Each kind is a keyspace of its own: the value that stands for one step
 * cannot be redeemed as another (threat 16).
 */
export const steps = {
  /** A connect link: the person who opens it still has to sign in. */
  connect: wishSchema,
  /** A login link. */
  login: loginWishSchema,
  /** `state` towards the identity provider. */
  sign_in: z.strictObject({
    browser: z.string(),
    verifier: z.string(),
    nonce: z.string(),
    issuer: z.string(),
    purpose: purposeSchema,
  }),
  /** The CSRF value of the consent page, which is shown to the right user alone. */
  consent: z.strictObject({
    browser: z.string(),
    link: z.string(),
    wish: wishSchema,
    display: z.string().optional(),
  }),
  /** The CSRF value of the page on which the user allows a client, or the way past it. */
  client_consent: z.strictObject({
    browser: z.string(),
    wish: clientRequestSchema,
    who: signedInSchema,
  }),
  /** What the user has decided about a client, on its way to the authorization server. */
  client_decision: z.strictObject({
    browser: z.string(),
    interaction: z.string(),
    /** The client session; absent: the user has not allowed it. */
    session: z.string().optional(),
  }),
  /** The CSRF value of the page that binds a Unix user. */
  confirm: z.strictObject({
    browser: z.string(),
    link: z.string(),
    wish: loginWishSchema,
    ...signedInSchema.shape,
  }),
  /** `state` towards the OAuth service; made only after the user has consented. With the key that the grant's tokens are to be bound to. */
  authorization: z.strictObject({
    browser: z.string(),
    link: z.string(),
    verifier: z.string(),
    wish: wishSchema,
    granted: z.array(z.string()),
    consentedAt: z.number(),
    proofKey: z.string().optional(),
  }),
} as const
export type StepKind = keyof typeof steps
export type Step<Kind extends StepKind> = z.output<(typeof steps)[Kind]>

/** ms. */
export const LIFETIME = 600_000

const idOf = (value: string): string => createHash('sha256').update(value).digest('base64url')

/** Keeps the steps: the store knows them by a hash, so that a reader of the store cannot continue one. */
export const createAttempts = (options: { store: AttemptStore; envelope: Envelope; clock: Clock; random: Random }) => {
  const { store, envelope, clock, random } = options
  const open = async <Kind extends StepKind>(
    kind: Kind,
    found: { id: string; tenant: string; sealed: Uint8Array } | undefined,
  ): Promise<Step<Kind>> => {
    if (found === undefined) throw refuse('connect_invalid', { problem: 'it has expired, or was used already' })
    const text = await envelope.open({ tenant: found.tenant, kind: `attempt/${kind}`, id: found.id }, found.sealed)
    return steps[kind].parse(JSON.parse(text.reveal())) as Step<Kind>
  }
  return {
    /** Stores a step. @returns the random value that stands for it */
    async begin<Kind extends StepKind>(kind: Kind, tenant: string, step: Step<Kind>): Promise<string> {
      const value = randomText(random, 24)
      const id = idOf(value)
      const sealed = await envelope.seal({ tenant, kind: `attempt/${kind}`, id }, new Secret(JSON.stringify(step)))
      await store.put({ kind, id, tenant, sealed, expiresAt: clock.now() + LIFETIME })
      return value
    },
    /** Looks at a step without ending it. @throws DeputyError `connect_invalid` */
    async look<Kind extends StepKind>(kind: Kind, value: string): Promise<Step<Kind>> {
      return open(kind, await store.find(kind, idOf(value), clock.now()))
    },
    /** Ends a step: at most one caller ever gets it. @throws DeputyError `connect_invalid` */
    async take<Kind extends StepKind>(kind: Kind, value: string): Promise<Step<Kind>> {
      return open(kind, await store.take(kind, idOf(value), clock.now()))
    },
  }
}
export type Attempts = ReturnType<typeof createAttempts>
