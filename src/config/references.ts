import { didYouMean, ownValue } from '#foundation/text'
import { isOwnAddress, documentOf, pagesUrlOf } from './client-document.ts'
import { clientsOf, needsUser, type OAuthClient } from './downstream.ts'
import { bindingProblems, injectionProblems, sharedHosts } from './injection-references.ts'
import { isLoopback, listenProblems } from './listen-problems.ts'
import type { Loaded } from './loaded.ts'
import type { Problem } from './problem.ts'
import { neededVariables, type Provider } from './provider.ts'
import {
  DATA_KEY_GRACE,
  isOwnKeys,
  OWN_BACKEND,
  overlaps,
  tenantOfDataKey,
  type RotationPolicy,
} from './rotation-policy.ts'
import type { Server } from './server.ts'
import type { Settings } from './settings.ts'
import { takesAssertions } from './tenant.ts'
import { engineProblems } from './engine-question.ts'
import type { Located } from './yaml-file.ts'
import { servesTenant } from './values.ts'

/** The backend that every daemon has. */
const EMBEDDED = 'embedded'
/** https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html (ms) */
const AWS_PAUSE = 600_000

const list = (names: Iterable<string>): string => [...names].sort().join(', ') || 'none yet'

/** How a name that points nowhere is corrected: the names that are near, else all of them. */
const correction = (name: string, what: string, names: Iterable<string>): string => {
  const all = [...names]
  return didYouMean(name, all) || `${what}: ${list(all)}.`
}

/** What single files cannot show: names that point nowhere, addresses that are not loopback, servers that look alike. */
export const checkReferences = (loaded: Loaded): Problem[] => [
  ...listenProblems(loaded),
  ...checkSettings(loaded),
  ...checkTenants(loaded),
  ...checkServers(loaded),
  ...checkDownstreams(loaded),
  ...checkDocuments(loaded),
  ...checkRotations(loaded),
  ...checkBackends(loaded),
]

/** Every place in a value that names a secret and its backend. */
const backendsIn = (
  value: unknown,
  path: readonly PropertyKey[] = [],
): { backend: string; path: readonly PropertyKey[] }[] => {
  if (typeof value !== 'object' || value === null) return []
  const here =
    'backend' in value && typeof value.backend === 'string'
      ? [{ backend: value.backend, path: [...path, 'backend'] }]
      : []
  return [
    ...here,
    ...Object.entries(value).flatMap(([key, each]) =>
      backendsIn(each, [...path, Array.isArray(value) ? Number(key) : key]),
    ),
  ]
}

const checkBackends = ({ settings, tenants, downstreams, rotations }: Loaded): Problem[] => {
  const names = new Set([EMBEDDED, ...Object.keys(settings.value.secrets.backends)])
  const isKnown = (backend: string, of: object): boolean =>
    names.has(backend) || (backend === OWN_BACKEND && 'rotation' in of)
  const problems = [...tenants.values(), ...downstreams.values(), ...rotations.values()].flatMap(
    ({ value, file, lineOf }) =>
      backendsIn(value)
        .filter(({ backend }) => !isKnown(backend, value))
        .map(({ backend, path }) => ({
          file,
          line: lineOf(path),
          message: `There is no secret backend ${backend}.`,
          fix: didYouMean(backend, names) || `Add it under secrets.backends in deputy.yaml; known: ${list(names)}.`,
        })),
  )
  for (const taken of [EMBEDDED, OWN_BACKEND]) {
    if (Object.hasOwn(settings.value.secrets.backends, taken))
      problems.push({
        file: settings.file,
        line: settings.lineOf(['secrets', 'backends', taken]),
        message: `The name ${taken} is taken by what Deputy keeps itself.`,
        fix: 'Choose another name.',
      })
  }
  return problems
}

const checkSettings = ({ settings }: Loaded): Problem[] => {
  const problems: Problem[] = []
  const { value, file, lineOf } = settings
  const pages = value.connect_url
  if (pages?.startsWith('http:') === true && !isLoopback(new URL(pages).hostname)) {
    problems.push({
      file,
      line: lineOf(['connect_url']),
      message: 'connect_url is plain http, so sign-in could be read on the way.',
      fix: 'Write the https URL of the reverse proxy.',
    })
  }
  return problems
}

const checkTenants = ({ tenants, settings }: Loaded): Problem[] =>
  [...tenants.values()].flatMap(({ value, file, lineOf }) => {
    const problems: Problem[] = []
    if (value.sign_in !== undefined && !value.issuers.some(({ issuer }) => issuer === value.sign_in?.issuer)) {
      problems.push({
        file,
        line: lineOf(['sign_in', 'issuer']),
        message: `sign_in.issuer is not one of the tenant's issuers (${list(value.issuers.map(({ issuer }) => issuer))}).`,
        fix: 'Add it to `issuers`, or correct it.',
      })
    }
    value.identity_assertions?.issuers.forEach((taken, at) => {
      if (!value.issuers.some(({ issuer }) => issuer === taken))
        problems.push({
          file,
          line: lineOf(['identity_assertions', 'issuers', at]),
          message: `Assertions of ${taken} would be taken, which is not one of the tenant's issuers (${list(value.issuers.map(({ issuer }) => issuer))}).`,
          fix: 'Add it to `issuers`, or correct it.',
        })
    })
    value.signals.forEach(({ issuer, users_of: about = issuer }, at) => {
      if (!value.issuers.some((each) => each.issuer === about))
        problems.push({
          file,
          line: lineOf(['signals', at, 'issuer']),
          message: `The transmitter ${issuer} speaks of users of ${about}, which is not one of the tenant's issuers.`,
          fix: 'Name the issuer in `users_of`, or add it to `issuers`.',
        })
    })
    value.issuers.forEach(({ issuer, claims }, at) => {
      const sharing =
        claims.tenant !== undefined
          ? []
          : [...tenants.values()].filter(
              (other) =>
                other.value.tenant !== value.tenant && other.value.issuers.some((each) => each.issuer === issuer),
            )
      if (sharing.length > 0) {
        problems.push({
          file,
          line: lineOf(['issuers', at, 'issuer']),
          message: `${list(sharing.map((other) => other.value.tenant))} trusts ${issuer} as well, and nothing says which of its users are ${value.tenant}'s.`,
          fix: `Name the claim that does: claims: { tenant: { claim: org_id, value: ${value.tenant} } }.`,
        })
      }
      if (issuer.startsWith('http:') && !settings.value.network.allow_loopback) {
        problems.push({
          file,
          line: lineOf(['issuers', at, 'issuer']),
          message: `The issuer ${issuer} is plain http.`,
          fix: 'Write its https URL; for development set network.allow_loopback: true in deputy.yaml.',
        })
      }
    })
    return problems
  })

const checkServers = (loaded: Loaded): Problem[] => {
  const problems: Problem[] = []
  const byResource = new Map<string, Located<Server>>()
  for (const located of loaded.servers.values()) {
    const { value, file, lineOf } = located
    const twin = byResource.get(value.resource)
    if (twin !== undefined)
      problems.push({
        file,
        line: lineOf(['resource']),
        message: `${value.server} and ${twin.value.server} have the same resource, so a token for one would count for the other.`,
        fix: 'Give each its own resource URI.',
      })
    byResource.set(value.resource, located)
    if (value.replaced_by !== undefined && !loaded.servers.has(value.replaced_by))
      problems.push({
        file,
        line: lineOf(['replaced_by']),
        message: `There is no server ${value.replaced_by}.`,
        fix: correction(value.replaced_by, 'Known servers', loaded.servers.keys()),
      })
    if (value.tenants !== '*')
      value.tenants.forEach((tenant, at) => {
        if (!loaded.tenants.has(tenant))
          problems.push({
            file,
            line: lineOf(['tenants', at]),
            message: `There is no tenant ${tenant}.`,
            fix: correction(tenant, 'Known tenants', loaded.tenants.keys()),
          })
      })
    if (
      value.first_authorization_server === 'deputy' &&
      !takesAssertions(
        value,
        [...loaded.tenants.values()].map((each) => each.value),
      )
    )
      problems.push({
        file,
        line: lineOf(['first_authorization_server']),
        message: "Clients would be sent to Deputy, which takes identity assertions of none of the server's tenants.",
        fix: 'Add identity_assertions to the file of one of them, or leave it out.',
      })
    for (const use of ['downstreams', 'service_downstreams'] as const)
      problems.push(...checkUses(loaded, located, use), ...sharedHosts(loaded.downstreams, located, use))
    problems.push(...checkExec(located))
    for (const [tool, { downstream, scopes }] of Object.entries(value.tools)) {
      if (downstream === undefined) continue
      const registered = Object.hasOwn(value.downstreams, downstream) ? value.downstreams[downstream] : undefined
      if (registered === undefined)
        problems.push({
          file,
          line: lineOf(['tools', tool, 'downstream']),
          message: `The tool ${tool} uses ${downstream}, for which the server is not registered.`,
          fix: `Add ${downstream} to \`downstreams\` of this server.`,
        })
      for (const scope of scopes) {
        if (registered !== undefined && !registered.scopes.includes(scope))
          problems.push({
            file,
            line: lineOf(['tools', tool, 'scopes']),
            message: `The tool ${tool} needs ${scope}, for which the server is not registered at ${downstream}.`,
            fix: `Add ${scope} to downstreams.${downstream}.scopes.`,
          })
      }
    }
  }
  return problems
}

/** What `deputy exec` shall give is what the server may ask for, on behalf of whom it acts then. */
const checkExec = ({
  value: { exec, attest, login_session: hasSession, ...uses },
  file,
  lineOf,
}: Located<Server>): Problem[] => {
  if (exec === undefined) return []
  const problems: Problem[] = []
  const use = exec.on_behalf_of === 'session' ? 'downstreams' : 'service_downstreams'
  if (exec.on_behalf_of === 'session' && !hasSession)
    problems.push({
      file,
      line: lineOf(['exec']),
      message: "The server is started on behalf of the Unix user's session, and may not act on it.",
      fix: 'Write login_session: true, or exec.on_behalf_of: server.',
    })
  if (!attest.some((way) => 'exec' in way))
    problems.push({
      file,
      line: lineOf(['exec']),
      message: 'Nobody may start the server with `deputy exec`.',
      fix: 'Add attest: [{ exec: { uid: 1000 } }] with the Unix user who may.',
    })
  for (const kind of ['env', 'files'] as const)
    for (const [name, { downstream, scopes = [] }] of Object.entries(exec[kind])) {
      const registered = Object.hasOwn(uses[use], downstream) ? uses[use][downstream] : undefined
      if (registered === undefined)
        problems.push({
          file,
          line: lineOf(['exec', kind, name, 'downstream']),
          message: `${name} is of ${downstream}, for which the server is not registered under \`${use}\`.`,
          fix: `Add ${downstream} to \`${use}\` of this server.`,
        })
      for (const scope of scopes)
        if (registered?.scopes.includes(scope) === false)
          problems.push({
            file,
            line: lineOf(['exec', kind, name, 'scopes']),
            message: `${name} needs ${scope}, for which the server is not registered at ${downstream}.`,
            fix: `Add ${scope} to ${use}.${downstream}.scopes.`,
          })
    }
  return problems
}

const checkUses = (
  loaded: Loaded,
  { value, file, lineOf }: Located<Server>,
  use: 'downstreams' | 'service_downstreams',
): Problem[] =>
  Object.entries(value[use]).flatMap(([id, { scopes }]) => {
    const downstream = loaded.downstreams.get(id)?.value
    if (downstream === undefined)
      return [
        {
          file,
          line: lineOf([use, id]),
          message: `There is no downstream ${id}.`,
          fix: correction(id, 'Known downstreams', loaded.downstreams.keys()),
        },
      ]
    const problems: Problem[] = []
    if (use === 'service_downstreams' && needsUser(downstream.credential)) {
      problems.push({
        file,
        line: lineOf([use, id]),
        message: `${id} takes a user, so a server cannot ask for itself.`,
        fix: 'Move it to `downstreams`.',
      })
    }
    if (downstream.credential === 'minted' && downstream.bound === 'mtls' && value.certificate === undefined) {
      problems.push({
        file,
        line: lineOf([use, id]),
        message: `Tokens for ${id} are bound to the server's certificate, and ${value.server} has none.`,
        fix: 'Add `certificate`: openssl x509 -in server.pem -outform DER | sha256sum',
      })
    }
    const existing = Object.keys(downstream.scopes)
    for (const scope of scopes) {
      if (!existing.includes(scope))
        problems.push({
          file,
          line: lineOf([use, id, 'scopes']),
          message: `${id} has no scope ${scope}.`,
          fix: didYouMean(scope, existing) || `Its scopes: ${list(existing)}; new ones go into \`scopes\` of its file.`,
        })
    }
    if (value.tenants !== '*' && !value.tenants.some((tenant) => servesTenant(downstream.tenants, tenant))) {
      problems.push({
        file,
        line: lineOf([use, id]),
        message: `${id} serves none of this server's tenants.`,
        fix: `Add one of them to \`tenants\` of ${id}.`,
      })
    }
    return problems
  })

const checkDownstreams = ({ downstreams, tenants, providers, settings }: Loaded): Problem[] =>
  [...downstreams.values()].flatMap(({ value, file, lineOf }) => {
    const problems: Problem[] = []
    if (value.tenants !== '*')
      value.tenants.forEach((tenant, at) => {
        if (!tenants.has(tenant))
          problems.push({
            file,
            line: lineOf(['tenants', at]),
            message: `There is no tenant ${tenant}.`,
            fix: correction(tenant, 'Known tenants', tenants.keys()),
          })
      })
    if ('provider' in value && !providers.has(value.provider)) {
      problems.push({
        file,
        line: lineOf(['provider']),
        message: `There is no provider ${value.provider}.`,
        fix:
          didYouMean(value.provider, providers.keys()) ||
          `Write providers/${value.provider}.yaml, or name one of: ${list(providers.keys())}.`,
      })
    }
    if ('provider' in value) {
      const provider = providers.get(value.provider)?.value
      const needed = provider === undefined ? [] : neededVariables(provider)
      for (const [path, client] of [
        [['client'], value.client] as const,
        ...Object.entries(value.clients).map(([tenant, each]) => [['clients', tenant], each] as const),
      ]) {
        for (const name of needed.filter((each) => !Object.hasOwn(client.variables, each))) {
          problems.push({
            file,
            line: lineOf(path),
            message: `The provider ${value.provider} needs to know ${name}: ${provider!.variables[name]!.meaning}`,
            fix: `Write variables: { ${name}: … } under ${path.join('.')}.`,
          })
        }
        for (const name of Object.keys(client.variables).filter(
          (each) => provider !== undefined && !Object.hasOwn(provider.variables, each),
        )) {
          problems.push({
            file,
            line: lineOf([...path, 'variables', name]),
            message: `The provider ${value.provider} has no variable ${name}.`,
            fix: `Known: ${list(Object.keys(provider!.variables))}.`,
          })
        }
        problems.push(
          ...documentProblems(client, provider, settings.value).map((problem) => ({
            file,
            line: lineOf([...path, 'client_id']),
            ...problem,
          })),
        )
      }
    }
    if (value.credential === 'oauth_grant') {
      const provider = providers.get(value.provider)?.value
      if (provider !== undefined && !provider.discovery && provider.authorization_endpoint === undefined)
        problems.push({
          file,
          line: lineOf(['provider']),
          message: `The provider ${value.provider} has no authorization_endpoint, so users cannot connect there.`,
          fix: "Add it to the provider's file.",
        })
    }
    if (value.credential === 'id_jag') {
      const provider = providers.get(value.provider)?.value
      if (provider !== undefined && (provider.issuer === undefined || provider.client_authentication === 'none'))
        problems.push({
          file,
          line: lineOf(['provider']),
          message: `The provider ${value.provider} takes no identity assertions as its file is: they name its issuer, and its client authenticates.`,
          fix: "Add `issuer`, and a `client_authentication` other than none, to the provider's file.",
        })
      if (value.tenants !== '*')
        value.tenants.forEach((tenant, at) => {
          const known = tenants.get(tenant)?.value
          if (known !== undefined && known.sign_in?.client_secret === undefined)
            problems.push({
              file,
              line: lineOf(['tenants', at]),
              message: `The tenant ${tenant} has no sign-in whose client has a secret, so its identity provider issues no assertions.`,
              fix: `Add sign_in with client_secret to tenants/${tenant}.yaml.`,
            })
        })
    }
    if ('provider' in value)
      problems.push(...bindingProblems({ value, file, lineOf }, providers.get(value.provider)?.value))
    problems.push(
      ...injectionProblems(
        { value, file, lineOf },
        (host) => settings.value.network.allow_loopback && isLoopback(host),
      ),
      ...engineProblems({ value, file, lineOf }),
    )
    const { backends } = settings.value.secrets
    if (
      (value.credential === 'dynamic' || value.credential === 'mtls_certificate') &&
      (value.backend === EMBEDDED || ownValue(backends, value.backend)?.kind === 'aws')
    ) {
      problems.push({
        file,
        line: lineOf(['backend']),
        message: `The backend ${value.backend} makes no credentials.`,
        fix: `Name one of kind vault: ${list(Object.keys(backends).filter((id) => backends[id]?.kind === 'vault'))}.`,
      })
    }
    return problems
  })

/** What is wrong with a client whose id is an address of Deputy's own, at which it publishes what the client is. */
const documentProblems = (
  client: OAuthClient,
  provider: Provider | undefined,
  settings: Settings,
): { message: string; fix: string }[] => {
  const pagesUrl = pagesUrlOf(settings)
  if (!isOwnAddress(client, pagesUrl)) return []
  if (documentOf(client, pagesUrl) === undefined)
    return [
      {
        message: `There is no document of a client at ${client.client_id}.`,
        fix: `Write client_id: ${pagesUrl}/clients/NAME, with a name of your choice.`,
      },
    ]
  const problems: { message: string; fix: string }[] = []
  if (!pagesUrl.startsWith('https:') && !settings.network.allow_loopback)
    problems.push({
      message: `Providers read documents of clients over https alone, and ${pagesUrl} is plain http.`,
      fix: 'Set connect_url in deputy.yaml to the https URL of the connect pages.',
    })
  const secret = (['client_secret', 'private_key', 'certificate'] as const).find((name) => client[name] !== undefined)
  if (secret !== undefined)
    problems.push({
      message: `A client that is known by its document signs with Deputy's own keys, and has no ${secret}.`,
      fix: `Take ${secret} out.`,
    })
  if (provider !== undefined && !['private_key_jwt', 'none'].includes(provider.client_authentication))
    problems.push({
      message: `A client that is known by its document shares no secret, and ${provider.provider} wants ${provider.client_authentication}.`,
      fix: "Write client_authentication: private_key_jwt, or none, in the provider's file.",
    })
  return problems
}

/** One document says one thing: how its client authenticates is the same wherever it is used. */
const checkDocuments = ({ downstreams, providers, settings }: Loaded): Problem[] => {
  const methods = new Map<string, string>()
  return [...downstreams.values()].flatMap(({ value, file, lineOf }) => {
    if (!('client' in value)) return []
    const method = providers.get(value.provider)?.value.client_authentication
    return clientsOf(value)
      .filter((client) => method !== undefined && documentOf(client, pagesUrlOf(settings.value)) !== undefined)
      .flatMap(({ client_id: id }) => {
        const known = methods.get(id) ?? method!
        methods.set(id, known)
        return known === method
          ? []
          : [
              {
                file,
                line: lineOf(['provider']),
                message: `The document of the client ${id} would have to say ${known} and ${method} at once.`,
                fix: 'Give the client another name at one of the two providers.',
              },
            ]
      })
  })
}

const checkRotations = ({ rotations, tenants, settings }: Loaded): Problem[] => {
  const seen: Located<RotationPolicy>[] = []
  return [...rotations.values()].flatMap((located) => {
    const { value, file, lineOf } = located
    const problems: Problem[] = []
    for (const twin of seen.filter((each) => overlaps(each.value, value))) {
      problems.push({
        file,
        line: lineOf(['secrets', 'name']),
        message: `${value.rotation} and ${twin.value.rotation} (${twin.file}) cover the same secrets, so nobody could say which of them holds.`,
        fix: 'Narrow the name or the tenants of one of the two.',
      })
    }
    seen.push(located)
    const { backend } = value.secrets
    const isOwn = value.how.rotator === 'deputy_keys'
    if (isOwn !== (backend === OWN_BACKEND) || (isOwn && !isOwnKeys(value.secrets.name))) {
      problems.push({
        file,
        line: lineOf(['secrets', 'name']),
        message: "The rotator deputy_keys and the backend deputy go together, for one of Deputy's own keys.",
        fix: `Write secrets: { backend: ${OWN_BACKEND}, name: signing-keys }, or key-encryption-key, or data-key.* for the data keys of all tenants.`,
      })
    }
    if (isOwn && tenantOfDataKey(value.secrets.name) !== undefined && value.grace < DATA_KEY_GRACE) {
      problems.push({
        file,
        line: lineOf(['grace']),
        message: 'A data key that was replaced is needed until every node has read the next one.',
        fix: 'Write 5m or more.',
      })
    }
    if (isOwn && value.secrets.tenants !== '*') {
      problems.push({
        file,
        line: lineOf(['secrets', 'tenants']),
        message: "Deputy's own keys belong to no tenant.",
        fix: 'Leave `tenants` out; the data key of one tenant is named data-key.<tenant>.',
      })
    }
    if (backend !== EMBEDDED && backend !== OWN_BACKEND && value.secrets.name.includes('*')) {
      problems.push({
        file,
        line: lineOf(['secrets', 'name']),
        message: `The backend ${backend} is not searched for secrets, so a policy names one of them.`,
        fix: 'Write the name of the secret, and a policy for each.',
      })
    }
    if (
      ownValue(settings.value.secrets.backends, backend)?.kind === 'aws' &&
      value.when.every !== undefined &&
      value.when.every < AWS_PAUSE
    ) {
      problems.push({
        file,
        line: lineOf(['when', 'every']),
        message: 'AWS Secrets Manager keeps 100 versions, and wants no more than one new one in ten minutes.',
        fix: 'Write 10m or more.',
      })
    }
    problems.push(...contradictions(located))
    if (value.secrets.tenants !== '*')
      value.secrets.tenants.forEach((tenant, at) => {
        if (!tenants.has(tenant))
          problems.push({
            file,
            line: lineOf(['secrets', 'tenants', at]),
            message: `There is no tenant ${tenant}.`,
            fix: correction(tenant, 'Known tenants', tenants.keys()),
          })
      })
    const { commands } = settings.value.rotation
    if (value.how.rotator === 'command' && !Object.hasOwn(commands, value.how.command)) {
      problems.push({
        file,
        line: lineOf(['how', 'command']),
        message: `deputy.yaml allows no command ${value.how.command}.`,
        fix:
          didYouMean(value.how.command, Object.keys(commands)) ||
          `Add it under rotation.commands; allowed: ${list(Object.keys(commands))}.`,
      })
    }
    return problems
  })
}

/** What a policy promises at once and cannot keep. */
const contradictions = ({ value, file, lineOf }: Located<RotationPolicy>): Problem[] => {
  const { every, max_age: maxAge, jitter } = value.when
  const problems: Problem[] = []
  const add = (path: readonly string[], message: string, fix: string): void => {
    problems.push({ file, line: lineOf(path), message, fix })
  }
  if (every !== undefined && maxAge !== undefined && maxAge < every)
    add(
      ['when', 'max_age'],
      'max_age is below every: each secret would be overdue before its next rotation.',
      'Write a max_age above every, or leave it out.',
    )
  const between = Math.min(every ?? Infinity, maxAge ?? Infinity)
  if (value.grace > between)
    add(
      ['grace'],
      'grace is longer than the time between two rotations: the old one would still work when the next one begins.',
      'Write a shorter grace, or let the secret rotate less often.',
    )
  if (every !== undefined && jitter > every)
    add(['when', 'jitter'], 'jitter is longer than every.', 'Write a jitter below every.')
  return problems
}
