/**
 * Runs cases with a simulated API: policies, scopes, arguments and the line of a call are the real ones, credentials
 * and the API are not.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createSystemRandom, systemClock } from '#clock'
import type { HostedTools, Server, Snapshot } from '#config'
import { asDeputyError, DeputyError, refuse } from '#errors'
import {
  allowInjection,
  assertToolScopes,
  authorize,
  type Exchange,
  type IssuedToken,
  resolveTarget,
  type TokenRequest,
} from '#flows/exchange'
import { createUpstream, RedactionCache } from '#flows/injected-request'
import { createToolCalls, type ToolCalls } from '#flows/tool-call'
import { Secret } from '#foundation/crypto'
import { createProofs } from '#foundation/outbound'
import type { Logger, Telemetry } from '#foundation/telemetry'
import type { Policy } from '#identity/policy'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import { type ApiTool, contentText, type ExampleAnswer, examplesOf, readAccepted, type ToolAnswer } from '#openapi'
import { CommandError, exit } from '../terminal.ts'
import type { TestCase, TestFile, TestUser } from './cases.ts'
import type { Outcome, Target } from './outcome.ts'
import { startSimulator, type Simulator } from './simulator.ts'

export interface OfflineOptions {
  readonly snapshot: Snapshot
  readonly policy: Policy
  readonly file: TestFile
  readonly telemetry: Telemetry
  readonly logger: Logger
}

/**
 * The credential of the simulated API. It has the length of a real one, so that an argument cannot hold it by chance.
 */
const CREDENTIAL = new Secret('simulated-credential-of-deputy-test')

/** A user of the file, as the exchange would have verified the user's token. */
interface Subject extends TestUser {
  readonly user: string
  readonly tenant: string
}

const subjectOf = (user: string, { users }: TestFile, { tenants }: Server, snapshot: Snapshot): Subject => {
  const found = users[user]!
  const served = tenants === '*' ? [...snapshot.tenants.keys()] : tenants
  const tenant = found.tenant ?? (served.length === 1 ? served[0] : undefined)
  if (tenant === undefined) throw new Error(`write the tenant of ${user} in the file: the server has several`)
  if (!served.includes(tenant)) throw new Error(`the server does not serve the tenant ${tenant} of ${user}`)
  return { ...found, user, tenant }
}

/** What the exchange would decide. @throws DeputyError of its refusal */
const decide = (
  { snapshot, policy }: OfflineOptions,
  server: Server,
  subject: Subject,
  wish: TokenRequest,
): IssuedToken['injection'] | undefined => {
  const { tenant, groups, claims, scopes } = subject
  assertToolScopes(server, wish.tool, { scopes })
  const target = resolveTarget(wish, { server, uses: server.downstreams, tenant, snapshot })
  const allowed =
    wish.injection === undefined ? undefined : allowInjection(target.downstreams[0], wish.injection, false)
  const decision = authorize(policy, {
    server,
    tenant,
    subject: { user: subject.user, groups, claims },
    target,
    wish,
    snapshot,
    now: systemClock.now(),
  })
  if (!decision.allowed)
    throw refuse('policy_denied', { server: server.server, downstream: decision.denied.join(' and ') })
  return allowed === undefined ? undefined : { ...allowed, stands: () => true, assertStands: () => undefined }
}

const examplesIn = async (home: string, tools: HostedTools): Promise<(tool: ApiTool) => ExampleAnswer | undefined> => {
  const byTool = new Map<ApiTool, ExampleAnswer>()
  const documents = new Map<string, ReadonlyMap<string, ExampleAnswer>>()
  for (const { api, tool } of tools.values()) {
    let examples = documents.get(api.api)
    if (examples === undefined) {
      const file = `apis/${api.document.file}`
      examples = examplesOf(readAccepted(await readFile(join(home, file), 'utf8'), file))
      documents.set(api.api, examples)
    }
    const example = examples.get(tool.operation.id)
    if (example !== undefined) byTool.set(tool, example)
  }
  return (tool) => byTool.get(tool)
}

const outcomeOf = (answer: ToolAnswer, simulator: Simulator): Outcome => ({
  kind: answer.isError ? 'error' : 'answer',
  text: contentText(answer.content),
  structured: answer.structured,
  asked: false,
  requests: simulator.requests(),
})

/** Failures of the API, which the caller learns as a tool's error; all others are refusals of Deputy. */
const OF_THE_API: ReadonlySet<string> = new Set([
  'upstream_unreachable',
  'upstream_timeout',
  'api_timeout',
  'api_resting',
  'answers_pending',
])

const failureOf = (thrown: unknown, simulator: Simulator): Outcome => {
  if (!(thrown instanceof DeputyError)) throw thrown
  const kind = OF_THE_API.has(thrown.code) ? 'error' : 'refused'
  return {
    kind,
    reason: thrown.code,
    text: `${thrown.message} ${thrown.next}`,
    asked: false,
    requests: simulator.requests(),
  }
}

/** The line of a call, to the simulated API. @param of the user of the case that runs */
const createCalls = (
  options: OfflineOptions,
  server: Server,
  simulator: Simulator,
  of: () => Subject,
): ToolCalls & AsyncDisposable => {
  const exchange: Pick<Exchange, 'exchange'> = {
    exchange: (_origin, request) => {
      const injection = decide(options, server, of(), request)
      if (injection === undefined) throw refuse('injection_not_offered', { downstream: request.audiences.join(' ') })
      return Promise.resolve({
        token: CREDENTIAL,
        issuedTokenType: ACCESS_TOKEN_TYPE,
        tokenType: 'Bearer',
        expiresIn: 300,
        scopes: [],
        injection: { ...injection, origin: simulator.origin },
      })
    },
  }
  const upstream = createUpstream({
    allowLoopback: true,
    allowPrivate: [],
    connectTimeout: 5000,
    answerTimeout: 60_000,
    idleTimeout: 60_000,
  })
  const random = createSystemRandom()
  const calls = createToolCalls({
    snapshot: () => options.snapshot,
    exchange,
    upstream,
    proofs: createProofs({ clock: systemClock, random }),
    redactions: new RedactionCache(),
    audit: { append: () => Promise.resolve() },
    telemetry: options.telemetry,
    logger: options.logger,
    clock: systemClock,
    chance: () => 0.5,
  })
  return Object.assign(calls, {
    async [Symbol.asyncDispose]() {
      await calls.close()
      await upstream.close()
    },
  })
}

/** @throws CommandError where the file names no server that Deputy hosts */
export const openOffline = async (options: OfflineOptions): Promise<Target> => {
  const { snapshot, file } = options
  const server = snapshot.servers.get(file.server ?? '')
  const tools = snapshot.hosted.get(file.server ?? '')
  if (server === undefined || tools === undefined)
    throw new CommandError(
      exit.configuration,
      `--simulate needs \`server\` with the id of a server whose file names \`apis\`; ${file.server ?? 'none'} is not one`,
    )
  const simulator = await startSimulator(
    [...tools.values()].map(({ tool }) => tool),
    await examplesIn(snapshot.home, tools),
  )
  const sees = (subject: Subject, tool: string): boolean => {
    const found = tools.get(tool)
    if (found === undefined) return false
    try {
      decide(
        options,
        server,
        { ...subject, scopes: server.tools[tool]?.requires ?? [] },
        { audiences: [found.api.downstream], resources: [], tool },
      )
      return true
    } catch (error) {
      // As in tools/list: whether a credential may be handed out has nothing to do with whether the tool is seen.
      return asDeputyError(error).code === 'injection_only'
    }
  }
  return {
    tools: (user) => {
      const subject = subjectOf(user, file, server, snapshot)
      return Promise.resolve([...tools.keys()].filter((tool) => sees(subject, tool)))
    },
    async call(test: TestCase & { readonly tool: string }) {
      const subject = subjectOf(test.user, file, server, snapshot)
      simulator.order(test.fault)
      if (!sees(subject, test.tool))
        return {
          kind: 'hidden',
          reason: 'tool_unknown',
          text: `Tool ${test.tool} not found`,
          asked: false,
          requests: 0,
        }
      await using calls = createCalls(options, server, simulator, () => subject)
      try {
        const answer = await calls.call({
          origin: { correlationId: 'test', evidence: {} },
          server: server.server,
          tool: test.tool,
          arguments: test.arguments,
          onBehalfOf: { subjectToken: new Secret('test'), subjectTokenType: ACCESS_TOKEN_TYPE },
          who: { tenant: subject.tenant, user: subject.user },
          signal: new AbortController().signal,
        })
        return outcomeOf(answer, simulator)
      } catch (thrown) {
        return failureOf(thrown, simulator)
      }
    },
    close: () => simulator.close(),
  }
}
