import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Clock } from '#clock'
import type { CurrentSnapshot } from '#config'
import { type CredentialRequest, downstreamsOf, kinds, providerOf } from '#credentials/connector'
import { type Envelope, type Fingerprint, openProofKey, proofKeyText, Secret } from '#foundation/crypto'
import type { SharedBytes } from '#foundation/redis'
import type { Logger } from '#foundation/telemetry'
import type { TokenTypeUri } from '#oauth'
import { credentialKey, type CachedCredential } from './cached-credential.ts'

/** Credentials that any node has fetched and every node may use. */
export interface SharedCredentials {
  /** What a credential is shared under; undefined for what is not shared: what a node makes by itself is not worth asking for. */
  keyOf(request: CredentialRequest): string | undefined
  /** @returns the entry and when it ends (ms since the epoch) */
  get(tenant: string, key: string): Promise<{ entry: CachedCredential; expiresAt: number } | undefined>
  set(key: string, entry: CachedCredential, expiresAt: number): Promise<void>
  remove(key: string): Promise<void>
}

/** Entries of nodes of the earlier version have `wider` for `over_scoped`. */
const withOldName = (entry: unknown): unknown => {
  if (typeof entry !== 'object' || entry === null || !('wider' in entry) || 'over_scoped' in entry) return entry
  const { wider, ...rest } = entry
  return { ...rest, over_scoped: wider }
}

const entrySchema = z.strictObject({
  token: z.string(),
  issued_token_type: z.templateLiteral(['urn:', z.string(), ':token-type:', z.string()]),
  token_type: z.enum(['Bearer', 'DPoP', 'N_A']),
  scopes: z.array(z.string()),
  expires_at: z.number(),
  over_scoped: z.boolean(),
  grant: z.string().optional(),
  token_id: z.string().optional(),
  fields: z.record(z.string(), z.string()).optional(),
  proof_key: z.string().optional(),
  auditNote: z.string(),
  user: z.string().optional(),
  server: z.string(),
  downstreams: z.array(z.string()),
  provider: z.string().optional(),
  tokens: z.array(z.string()),
  since: z.number(),
  known: z.number().default(0),
  kept_until: z.number(),
})

const toText = (
  { credential, user, server, downstreams, provider, tokens, since, known }: CachedCredential,
  keptUntil: number,
): string =>
  JSON.stringify({
    token: credential.token.reveal(),
    issued_token_type: credential.issuedTokenType,
    token_type: credential.tokenType,
    scopes: [...credential.scopes],
    expires_at: credential.expiresAt,
    over_scoped: credential.overScoped,
    grant: credential.grant,
    token_id: credential.tokenId,
    fields: credential.fields === undefined ? undefined : { ...credential.fields },
    proof_key: credential.proofKey === undefined ? undefined : proofKeyText(credential.proofKey).reveal(),
    auditNote: credential.auditNote,
    user,
    server,
    downstreams: [...downstreams],
    provider,
    tokens: [...tokens],
    since,
    known,
    kept_until: keptUntil,
  } satisfies z.input<typeof entrySchema>)

const toEntry = async (text: string, tenant: string): Promise<{ entry: CachedCredential; expiresAt: number }> => {
  const {
    kept_until: expiresAt,
    token,
    issued_token_type: issuedTokenType,
    token_type: tokenType,
    expires_at: credentialExpiresAt,
    token_id: tokenId,
    grant,
    fields,
    proof_key: proofKey,
    scopes,
    over_scoped: overScoped,
    auditNote,
    user,
    provider,
    ...rest
  } = entrySchema.parse(withOldName(JSON.parse(text)))
  return {
    expiresAt,
    entry: {
      ...rest,
      tenant,
      user,
      provider,
      credential: {
        token: new Secret(token),
        issuedTokenType: issuedTokenType as TokenTypeUri,
        tokenType,
        scopes,
        expiresAt: credentialExpiresAt,
        overScoped,
        auditNote,
        ...(grant === undefined ? {} : { grant }),
        ...(tokenId === undefined ? {} : { tokenId }),
        ...(fields === undefined ? {} : { fields }),
        ...(proofKey === undefined ? {} : { proofKey: await openProofKey(new Secret(proofKey)) }),
      },
    },
  }
}

/** What the files of a downstream and its provider say, as a digest: equal on nodes whose files are. */
export const createConfigurationDigest = (snapshot: CurrentSnapshot): ((request: CredentialRequest) => string) => {
  const digests = new WeakMap<object, string>()
  const digestOf = (file: object): string => {
    let digest = digests.get(file)
    if (digest === undefined)
      digests.set(file, (digest = createHash('sha256').update(JSON.stringify(file)).digest('base64url')))
    return digest
  }
  return (request) => {
    const provider = snapshot().providers.get(providerOf(request.downstream) ?? '')
    return [...downstreamsOf(request), request.server, ...(provider === undefined ? [] : [provider])]
      .map(digestOf)
      .join('/')
  }
}

/**
 * Entries are sealed under the tenant's data key and bound to their key, which itself is a keyed digest: what lies in
 * Redis tells a reader nothing, and an entry that another party has written or moved there is not believed (threat 24).
 * @param generationOf what the files say about the credential, as text: nodes whose files differ share nothing
 */
export const createSharedCredentials = (options: {
  readonly bytes: SharedBytes
  readonly envelope: Envelope
  readonly fingerprint: Fingerprint
  readonly generationOf: (request: CredentialRequest) => string
  readonly clock: Clock
  readonly logger: Logger
}): SharedCredentials => {
  const nameOf = (tenant: string, id: string) => ({ tenant, kind: 'shared-credential', id })
  return {
    keyOf(request) {
      if (!kinds[request.downstream.credential].shared) return undefined
      return options.fingerprint(
        new Secret(`shared-credential/${credentialKey(request, options.generationOf(request))}`),
      )
    },
    async get(tenant, key) {
      const sealed = await options.bytes.get('credential', key)
      if (sealed === undefined) return undefined
      try {
        const found = await toEntry((await options.envelope.open(nameOf(tenant, key), sealed)).reveal(), tenant)
        return found.expiresAt > options.clock.now() ? found : undefined
      } catch (error) {
        options.logger.warn({ err: error }, 'reading a shared credential failed; fetching a new one')
        return undefined
      }
    },
    async set(key, entry, expiresAt) {
      const life = expiresAt - options.clock.now()
      if (life > 0)
        await options.bytes.set(
          'credential',
          key,
          await options.envelope.seal(nameOf(entry.tenant, key), new Secret(toText(entry, expiresAt))),
          life,
        )
    },
    remove: (key) => options.bytes.remove('credential', key),
  }
}
