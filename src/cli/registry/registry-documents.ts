/** The documents that commands write into the registry, as text. Pure: what they are given has been judged. */
import { stringify } from 'yaml'
import type { Attestation } from '#config'
import { commented } from './registry-file.ts'

const HINT = 'docs/configuration.md explains every setting.'

/** A client of Deputy's at an identity provider or a service. */
export interface ClientFacts {
  readonly id: string
  /** The file with its secret, relative to the home; undefined for a public client. */
  readonly secretFile: string | undefined
}

export interface TenantFacts {
  readonly id: string
  readonly name?: string | undefined
  readonly issuer: string
  /** The claim and its value that a token must have, where several organizations share the issuer. */
  readonly claim?: { readonly claim: string; readonly value: string } | undefined
  readonly signIn?: ClientFacts | undefined
}

const credentialsOf = ({ id, secretFile }: ClientFacts): object => ({
  client_id: id,
  ...(secretFile === undefined ? {} : { client_secret: { file: secretFile } }),
})

/** `tenants/<id>.yaml`. */
export const tenantText = ({ id, name, issuer, claim, signIn }: TenantFacts): string =>
  commented(HINT, {
    tenant: id,
    ...(name === undefined ? {} : { name }),
    issuers: [{ issuer, ...(claim === undefined ? {} : { claims: { tenant: claim } }) }],
    ...(signIn === undefined ? {} : { sign_in: { issuer, ...credentialsOf(signIn) } }),
  })

/** What a server may use: a downstream and scopes of it. */
export interface Use {
  readonly downstream: string
  readonly scopes: readonly string[]
}

export interface ServerFacts {
  readonly id: string
  readonly name?: string | undefined
  readonly resource: string
  readonly tenants: '*' | readonly string[]
  readonly owner: string
  readonly status: 'proposed' | 'approved'
  readonly attest: readonly Attestation[]
  readonly uses: readonly Use[]
}

/** `servers/<id>.yaml`. */
export const serverText = ({ id, name, resource, tenants, owner, status, attest, uses }: ServerFacts): string =>
  commented(HINT, {
    server: id,
    ...(name === undefined ? {} : { name }),
    resource,
    tenants,
    owner,
    status,
    attest,
    downstreams: Object.fromEntries(uses.map(({ downstream, scopes }) => [downstream, { scopes }])),
  })

/** The kinds of credentials that a few options describe; docs/configuration.md describes them all. */
export type FormKind =
  'oauth_grant' | 'client_credentials' | 'token_exchange' | 'entra_obo' | 'static' | 'api_key' | 'basic' | 'minted'

export interface DownstreamFacts {
  readonly id: string
  readonly name?: string | undefined
  readonly tenants: '*' | readonly string[]
  readonly credential: FormKind
  readonly provider?: string | undefined
  readonly client?: (ClientFacts & { readonly variables: Readonly<Record<string, string>> }) | undefined
  /** Name and backend of a secret of the tenant. */
  readonly secret?: { readonly name: string; readonly backend: string } | undefined
  readonly resource?: string | undefined
  /** Scopes with their descriptions. */
  readonly scopes: Readonly<Record<string, string>>
  /** Origins to which the proxy sends the credential. */
  readonly hosts: readonly string[]
}

/** Where the proxy puts a credential, by its kind: logins as Basic, tokens and keys as Bearer. */
const placeOf = (credential: FormKind): object =>
  credential === 'basic' ? { basic: {} } : { header: 'Authorization', value: 'Bearer {credential}' }

/** `downstreams/<id>.yaml`. */
export const downstreamText = (facts: DownstreamFacts): string => {
  const { id, name, tenants, credential, provider, client, secret, resource, scopes, hosts } = facts
  return commented(HINT, {
    downstream: id,
    ...(name === undefined ? {} : { name }),
    ...(tenants === '*' ? {} : { tenants }),
    credential,
    ...(provider === undefined ? {} : { provider }),
    ...(client === undefined
      ? {}
      : {
          client: {
            ...credentialsOf(client),
            ...(Object.keys(client.variables).length === 0 ? {} : { variables: client.variables }),
          },
        }),
    ...(secret === undefined
      ? {}
      : { ...(secret.backend === 'embedded' ? {} : { backend: secret.backend }), secret: secret.name }),
    ...(resource === undefined ? {} : { resource }),
    ...(Object.keys(scopes).length === 0 ? {} : { scopes }),
    ...(hosts.length === 0 ? {} : { inject: { hosts, as: placeOf(credential) } }),
  })
}

/** The names in a policy: one tenant's users, at one downstream, through one server. */
export interface Permission extends Use {
  readonly tenant: string
  readonly server: string
  readonly credential: FormKind
}

/** A policy that permits what a server is registered for. Ids and scopes have no quotes (their schemas). */
export const permissionText = ({ tenant, server, downstream, credential, scopes }: Permission): string =>
  `// Users of ${tenant} at ${downstream}, through ${server}. docs/policy.md explains policies.
@id("${tenant}-${server}-${downstream}")
permit (
  principal in Deputy::Tenant::"${tenant}",
  action == Deputy::Action::"${credential}",
  resource == Deputy::Downstream::"${downstream}"
)
when {
  context.workload == Deputy::Workload::"${server}" &&
  ${JSON.stringify(scopes)}.containsAll(context.scopes)
};
`

/** Examples for that policy, which \`deputy policy test\` runs. */
export const permissionTest = ({ tenant, server, downstream, credential, scopes }: Permission): string => {
  const example = { tenant, user: 'alice', server, downstream, credential, scopes }
  return commented('Examples that `deputy policy test` checks against the policies in this folder.', {
    examples: [
      { name: `a user of ${tenant} uses ${downstream} through ${server}`, ...example, expect: 'allow' },
      { name: 'another server has no such right', ...example, server: `not-${server}`.slice(0, 63), expect: 'deny' },
    ],
  })
}

/** How a server's file lists a downstream, for messages. */
export const useLines = (downstream: string, scopes: readonly string[]): string =>
  stringify({ downstreams: { [downstream]: { scopes } } }, { collectionStyle: 'any' }).trimEnd()
