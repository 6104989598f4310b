/** What `deputy init` asks, or takes from its options: the first tenant, the first server, and its downstream. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { parse } from 'yaml'
import { idSchema, openIssuerClaim, type Settings, settingsSchema, urlSchema } from '#config'
import { isLoopbackHost } from '#foundation/outbound'
import { type Answers, judgeBy, judgeText, valueOf } from '../answers.ts'
import { askYes, type Judged } from '../asking.ts'
import { type ClientSecret, givenSecret } from '../registry/client-secret-file.ts'
import { type InitSettings, settingsText } from './settings.ts'
import { discoverIssuer } from '../remote/issuer-discovery.ts'
import { assertResource, claimOf, currentUser } from '../registry/option-values.ts'
import type { ServerFacts, TenantFacts } from '../registry/registry-documents.ts'
import {
  judgeKey,
  judgeUser,
  makeClientSecret,
  type ProofOfServer,
  type ProofOptions,
  proofsOf,
} from '../registry/server-proof.ts'
import { CommandError, exit, type Terminal, withProgress } from '../terminal.ts'

export interface InitOptions extends ProofOptions {
  tenant?: string
  tenantName?: string
  issuer?: string
  tenantClaim?: string
  clientId?: string
  clientSecretFile?: string
  connectUrl?: string
  environment?: string
  allowLoopback?: boolean
  allowPrivate?: string[]
  server?: string
  resource?: string
  owner?: string
  provider?: string
  variable?: string[]
  providerClientId?: string
  providerClientSecretFile?: string
  scope?: string[]
  offline?: boolean
}

/** What questions and checks work with. */
export interface InitContext {
  readonly home: string
  readonly terminal: Terminal
  readonly answers: Answers
  readonly options: InitOptions
}

const isLoopbackUrl = (text: string): boolean =>
  isLoopbackHost((URL.parse(text)?.hostname ?? '').replace(/^\[|\]$/g, ''))

/** A public URL is https: sign-in could be read on the way otherwise. */
const judgePages = (text: string): Judged<string> => {
  const judged = judgeBy(urlSchema, "the URL of Deputy's pages")(text)
  if ('value' in judged && !text.startsWith('https:') && !isLoopbackUrl(text))
    return { problem: `${text} is plain http, so sign-in could be read on the way. Write an https URL.` }
  return 'value' in judged ? { value: text.replace(/\/+$/, '') } : judged
}

/** Settings of the daemon that the first tenant depends on. */
export const askSettings = async ({ answers, options }: InitContext): Promise<InitSettings> => {
  const connectUrl = await answers.may({
    option: '--connect-url URL',
    given: options.connectUrl,
    text: 'Public https URL of Deputy, behind your reverse proxy (empty: only this machine)',
    judge: judgePages,
  })
  const environment = options.environment ?? (connectUrl?.startsWith('https:') === true ? 'production' : 'development')
  return {
    connectUrl,
    environment: valueOf(judgeBy(idSchema, 'the name of an environment')(environment)),
    allowLoopback: options.allowLoopback === true,
    allowPrivate: options.allowPrivate ?? [],
  }
}

const networkOf = (settings: InitSettings): Settings['network'] => {
  const { data, error } = settingsSchema.safeParse(parse(settingsText(settings)))
  if (data !== undefined) return data.network
  const [issue] = error.issues
  throw new CommandError(exit.usage, `${issue?.path.join('.')}: ${issue?.message}.`)
}

/** An identity provider that is reached, has the name that was given, and publishes keys. */
const judgeIssuer =
  ({ home, terminal, answers, options }: InitContext, settings: InitSettings) =>
  async (text: string): Promise<Judged<{ readonly issuer: string; readonly allowLoopback: boolean }>> => {
    const judged = judgeBy(urlSchema, 'the URL of an identity provider')(text)
    if (!('value' in judged)) return judged
    let { allowLoopback } = settings
    if (!allowLoopback && isLoopbackUrl(text))
      allowLoopback =
        answers.asking !== undefined &&
        (await askYes(answers.asking, '  It is on this machine. Allow loopback and plain http, for development only?'))
    if (text.startsWith('http:') && !allowLoopback)
      return { problem: `${text} is plain http. Write its https URL, or add --allow-loopback for development.` }
    const value = { issuer: text, allowLoopback }
    if (options.offline === true) return { value }
    const network = networkOf({ ...settings, allowLoopback })
    const result = await withProgress(
      terminal,
      'Calling the identity provider',
      discoverIssuer(text, { home, network }),
    )
    if ('problem' in result)
      return {
        problem: `${result.problem}\n  For an identity provider in a private network add --allow-private RANGE.`,
        canInsist: true,
      }
    for (const line of result.found) answers.tell(`  found ${line}`)
    return { value }
  }

/** The content of a file with a secret, or of standard input. */
const secretIn = async (path: string, name: string, { terminal }: InitContext): Promise<ClientSecret | undefined> =>
  givenSecret(name, path === '-' ? await terminal.input() : await readFile(resolve(terminal.workingFolder, path)))

/** A secret from a file, or typed without echo; an empty one is of a public client. */
export const askSecret = async (
  context: InitContext,
  { name, of, option, given }: { name: string; of: string; option: string; given: string | undefined },
): Promise<ClientSecret | undefined> => {
  if (given !== undefined) return secretIn(given, name, context)
  return context.answers.may({
    option,
    given,
    text: `Secret of that client at ${of} (it is not shown; empty: it has none)`,
    secret: true,
    judge: (text) => ({ value: givenSecret(name, Buffer.from(text)) }),
  })
}

/** A tenant, and the secret of Deputy's client at its identity provider. */
export interface TenantAnswers {
  readonly facts: TenantFacts
  readonly secret: ClientSecret | undefined
  readonly settings: InitSettings
}

const askClaim = async (issuer: string, { answers, options }: InitContext): Promise<TenantFacts['claim']> => {
  const needed = openIssuerClaim(issuer)
  if (needed === undefined || options.tenantClaim !== undefined || answers.asking === undefined)
    return claimOf(options.tenantClaim, issuer)
  const value = await answers.need({
    option: `--tenant-claim ${needed}=VALUE`,
    given: undefined,
    text: `Value of the claim ${needed} of your organization, because every person can have an account there`,
    judge: judgeText,
  })
  return { claim: needed, value }
}

/** The first tenant. */
export const askTenant = async (id: string, context: InitContext): Promise<TenantAnswers> => {
  const { answers, options } = context
  const name = await answers.may({
    option: '--tenant-name NAME',
    given: options.tenantName,
    text: 'Its name for people',
    preset: id,
    judge: judgeText,
  })
  const settings = await askSettings(context)
  const { issuer, allowLoopback } = await answers.need({
    option: '--issuer URL',
    given: options.issuer,
    text: 'URL of its identity provider (the issuer of its tokens)',
    judge: judgeIssuer(context, settings),
    insisted: (text) => ({ issuer: text, allowLoopback: settings.allowLoopback }),
  })
  const claim = await askClaim(issuer, context)
  const clientId = await answers.may({
    option: '--client-id ID',
    given: options.clientId,
    text: 'Client id of Deputy at the identity provider, for sign-in on its pages (empty: later)',
    judge: judgeText,
  })
  const secret =
    clientId === undefined
      ? undefined
      : await askSecret(context, {
          name: `${id}-sign-in`,
          of: 'the identity provider',
          option: '--client-secret-file FILE',
          given: options.clientSecretFile,
        })
  const signIn = clientId === undefined ? undefined : { id: clientId, secretFile: secret?.file }
  return { facts: { id, name, issuer, claim, signIn }, secret, settings: { ...settings, allowLoopback } }
}

const judgeResource = (text: string): Judged<string> => {
  try {
    assertResource(text)
    return { value: text }
  } catch (error) {
    if (error instanceof CommandError) return { problem: error.message }
    throw error
  }
}

/** How the server proves itself: as the options say, else as the person chooses. */
const askProofs = async ({ answers, options, terminal }: InitContext): Promise<readonly ProofOfServer[]> => {
  const named = await proofsOf(options, terminal)
  if (named.length > 0) return named
  const way = await answers.need({
    option: '--uid USER (or --public-key FILE, --client-secret, --service-account NAMESPACE/NAME)',
    given: undefined,
    text: 'How does it prove that it is this server: user (its Unix user), key (a file with its public key) or secret',
    preset: 'user',
    judge: (text) =>
      ['user', 'key', 'secret'].includes(text) ? { value: text } : { problem: 'Write user, key or secret.' },
  })
  if (way === 'secret') return [await makeClientSecret()]
  const proof = await answers.need<ProofOfServer>(
    way === 'key'
      ? {
          option: '--public-key FILE',
          given: undefined,
          text: 'File with its public key (PEM or JWK)',
          judge: (text) => judgeKey(text, terminal.workingFolder),
        }
      : {
          option: '--uid USER',
          given: undefined,
          text: 'Unix user of its process, by name or number',
          judge: (text) => judgeUser(text, options.offline !== true),
          insisted: (text) => ({ attest: { unix: { uid: Number(text) } } }),
        },
  )
  return [proof]
}

export interface ServerAnswers {
  readonly facts: Omit<ServerFacts, 'uses'>
  readonly proofs: readonly ProofOfServer[]
}

/** The first MCP server, of the first tenant. */
export const askServer = async (id: string, tenant: string, context: InitContext): Promise<ServerAnswers> => {
  const { answers, options } = context
  const resource = await answers.need({
    option: '--resource URL',
    given: options.resource,
    text: 'URL at which MCP clients reach it',
    judge: judgeResource,
  })
  const owner = await answers.may({
    option: '--owner OWNER',
    given: options.owner,
    text: 'Who answers for it, such as a mail address',
    preset: currentUser(),
    judge: judgeText,
  })
  const proofs = await askProofs(context)
  const attest = proofs.map((proof) => proof.attest)
  return {
    facts: { id, resource, tenants: [tenant], owner: owner ?? currentUser(), status: 'approved', attest },
    proofs,
  }
}
