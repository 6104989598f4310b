import { asDeputyError, DeputyError, refuse } from '#errors'
import type { ToolCallFacts } from '#flows/exchange'
import type { CollectedAnswer } from '#flows/injected-request'
import type { HostedTool, Snapshot } from '#config'
import {
  type ApiAnswer,
  type ApiRequest,
  buildRequest,
  joinPages,
  nextPage,
  readAnswer,
  type ToolAnswer,
  validateArguments,
} from '#openapi'
import { createAnswerRooms } from './answer-room.ts'
import { createAttempts, type Attempts } from './attempts.ts'
import { assertNotAmong, type CallCredential, obtainFor, sendWith } from './credential.ts'
import type { RunningCall, ToolCallDependencies, ToolCallRequest } from './context.ts'
import { digestOf } from './digest.ts'
import { type Outcome, outcomeRecord } from './outcome.ts'
import { createOutcomes } from './outcomes.ts'
import { recordable } from './recordable.ts'

/** Calls tools of APIs for users and agents. */
export interface ToolCalls {
  /**
   * The line of a call: the tool is found, its arguments are checked, the request is built, the exchange decides and
   * gives the credential, the request is sent, its answer is read, and the outcome is recorded.
   * @throws DeputyError `tool_unknown`, `tool_arguments_invalid`, those of the exchange, those of the way to the API,
   * `api_resting`, `api_timeout`; and the reason of the request's signal
   */
  call(request: ToolCallRequest): Promise<ToolAnswer>
  /** Writes the records that still wait. */
  close(): Promise<void>
}

const factsOf = ({ api, tool }: HostedTool, args: unknown): ToolCallFacts => ({
  api: api.api,
  operation: tool.operation.id,
  digest: digestOf(args),
  ...(api.record.includes('arguments') ? { arguments: recordable(tool.inputSchema, args) } : {}),
})

/** What one call has done so far, for the record of a call that fails midway. */
interface Progress {
  credential?: CallCredential
  /** The files and policies in force when it was decided. */
  decidedUnder?: Snapshot
  status?: number
  requests: number
  bytes: number
  /**
   * Whether a credential that the API refused was replaced: an API that refuses each would make Deputy obtain one after
   * the other.
   */
  hasRenewed: boolean
}

/**
 * A reload may give the name of a tool to another operation, or take it away: what was decided then is not what would
 * be sent.
 * @throws DeputyError `tool_unknown`
 */
const assertSameTool = (
  { request: { server, tool }, hosted }: RunningCall,
  { snapshot }: ToolCallDependencies,
): void => {
  const now = snapshot().hosted.get(server)?.get(tool)
  const isSame =
    now !== undefined &&
    (now === hosted ||
      (now.api.api === hosted.api.api &&
        now.tool.operation.id === hosted.tool.operation.id &&
        now.tool.operation.method === hosted.tool.operation.method &&
        now.tool.operation.path === hosted.tool.operation.path))
  if (!isSame) throw refuse('tool_unknown', { tool, server })
}

/**
 * The credential of the call so far; where the files have changed since, policy decides again, also between two pages
 * (promise 1).
 */
const decidedNow = async (
  call: RunningCall,
  request: ApiRequest,
  progress: Progress,
  deps: ToolCallDependencies,
): Promise<CallCredential> => {
  const { credential: before, decidedUnder } = progress
  const current = deps.snapshot()
  if (before !== undefined && decidedUnder === current) return before
  const credential = await obtainFor(deps, call, request)
  progress.decidedUnder = current
  return before?.needles === undefined ? credential : { ...credential, earlier: before.needles }
}

/** Sends a request with a credential, if the tool and the credential still are what was decided. */
const sendNow = async (
  call: RunningCall,
  request: ApiRequest,
  { progress, credential }: { readonly progress: Progress; readonly credential: CallCredential },
  deps: ToolCallDependencies,
): Promise<CollectedAnswer> => {
  progress.credential = credential
  assertSameTool(call, deps)
  credential.injection.assertStands()
  progress.requests += 1
  return await sendWith(credential, request, call, deps)
}

/**
 * One request of the call. A refused credential (401) is replaced once: the API has not handled the request (RFC 9110
 * section 15.5.2).
 */
const sendOnce = async (
  call: RunningCall,
  request: ApiRequest,
  progress: Progress,
  deps: ToolCallDependencies,
): Promise<CollectedAnswer> => {
  const credential = await decidedNow(call, request, progress, deps)
  const answer = await sendNow(call, request, { progress, credential }, deps)
  if (answer.status !== 401 || progress.hasRenewed) return answer
  progress.hasRenewed = true
  const renewed = await obtainFor(deps, call, request, credential.token).catch((error: unknown) => {
    // A user who has to connect the service again learns that; any other failure leaves the API's own words.
    if (error instanceof DeputyError && error.kind.oauth === 'interaction_required') throw error
    deps.logger.info(
      { err: error, correlation_id: call.request.origin.correlationId },
      'an API refused a credential, and no other one is available',
    )
    return undefined
  })
  if (renewed === undefined) return answer
  const { needles: earlier } = credential
  const both = { ...renewed, ...(earlier === undefined ? {} : { earlier }) }
  return await sendNow(call, request, { progress, credential: both }, deps)
}

/** A request, sent again where its operation allows that. */
const sendPage = async (
  call: RunningCall,
  request: ApiRequest,
  progress: Progress,
  { deps, attempts }: { readonly deps: ToolCallDependencies; readonly attempts: Attempts },
): Promise<ApiAnswer> => {
  const { api, tool } = call.hosted
  const answer = await attempts.run(() => sendOnce(call, request, progress, deps), {
    key: JSON.stringify([api.api, call.request.who.tenant]),
    host: new URL(request.origin).host,
    idempotent: tool.effects.idempotent || tool.effects.readOnly,
    signal: call.signal,
  })
  progress.status = answer.status
  progress.bytes += answer.body.length
  progress.credential?.injection.assertStands()
  return answer
}

const runPages = async (
  call: RunningCall,
  progress: Progress,
  parts: { readonly deps: ToolCallDependencies; readonly attempts: Attempts },
): Promise<ToolAnswer> => {
  const { tool } = call.hosted
  const answers: ApiAnswer[] = []
  // An API whose cursors come back has no last page.
  const seen = new Set<string>()
  let request: ApiRequest | undefined = buildRequest(tool.operation, call.request.arguments)
  while (request !== undefined && !seen.has(request.query)) {
    seen.add(request.query)
    const answer: ApiAnswer = await sendPage(call, request, progress, parts)
    answers.push(answer)
    request = nextPage(tool.operation, request, answers)
    if (request !== undefined) call.request.onProgress?.(answers.length)
  }
  return await readAnswer(tool, joinPages(tool.operation, answers))
}

/** The end of the call's time, as an error that names the setting. */
const overdue = ({ request: { tool }, hosted }: Pick<RunningCall, 'request' | 'hosted'>): DeputyError =>
  refuse('api_timeout', { tool, seconds: hosted.tool.operation.limits.timeout / 1000 })

/** How often a call under way is checked against revocations (ms). */
const VALIDITY_INTERVAL_MS = 1000

/** Ends a call when its time is over, and when a revocation covers its credential (promise 4). */
const limitsOf = (
  call: Pick<RunningCall, 'request' | 'hosted'>,
  progress: Progress,
): Disposable & { readonly signal: AbortSignal } => {
  const ended = new AbortController()
  const timer = setTimeout(() => {
    ended.abort(overdue(call))
  }, call.hosted.tool.operation.limits.timeout)
  const interval = setInterval(() => {
    try {
      progress.credential?.injection.assertStands()
    } catch (error) {
      ended.abort(error)
    }
  }, VALIDITY_INTERVAL_MS)
  return {
    signal: ended.signal,
    [Symbol.dispose]() {
      clearTimeout(timer)
      clearInterval(interval)
    },
  }
}

/** An error of the API with the id for `deputy explain`, as refusals of Deputy have it. */
const withId = (answer: ToolAnswer, id: string): ToolAnswer => ({
  ...answer,
  content: answer.content.map((each, at) =>
    at === 0 && each.type === 'text' ? { ...each, text: `${each.text}\n(${id})` } : each,
  ),
})

export const createToolCalls = (deps: ToolCallDependencies): ToolCalls => {
  const attempts = createAttempts({ now: () => deps.clock.now(), chance: deps.chance })
  const outcomes = createOutcomes(deps)
  const rooms = createAnswerRooms(deps.answerLimits)

  /** The call acted, or did not, by now: the record of its outcome is written, and is not waited for. */
  const note = (call: RunningCall, outcome: Outcome, startedAt: number): void => {
    outcomes.write(outcomeRecord(call, outcome, deps.clock.now() - startedAt))
  }

  const run = async (call: RunningCall, progress: Progress): Promise<ToolAnswer> => {
    const startedAt = deps.clock.now()
    try {
      const answer = await runPages(call, progress, { deps, attempts })
      note(call, { ...progress, answer }, startedAt)
      return answer.isError ? withId(answer, call.request.origin.correlationId) : answer
    } catch (thrown) {
      const reason: unknown = call.signal.aborted ? call.signal.reason : thrown
      const error = reason instanceof DeputyError ? reason : call.signal.aborted ? undefined : asDeputyError(thrown)
      if (progress.credential !== undefined)
        note(call, { ...progress, error: error ?? refuse('call_cancelled', { tool: call.request.tool }) }, startedAt)
      throw error ?? thrown
    }
  }

  return {
    close: outcomes.flush,
    async call(request) {
      const hosted = deps.snapshot().hosted.get(request.server)?.get(request.tool)
      if (hosted === undefined) throw refuse('tool_unknown', { tool: request.tool, server: request.server })
      const problems = await validateArguments(hosted.tool, request.arguments)
      if (problems.length > 0)
        throw refuse('tool_arguments_invalid', { tool: request.tool, problem: problems.join(' ').replace(/\.$/, '') })
      assertNotAmong(request.onBehalfOf, [JSON.stringify(request.arguments)])
      const progress: Progress = { requests: 0, bytes: 0, hasRenewed: false }
      using room = rooms.open(request.who.tenant)
      using limits = limitsOf({ request, hosted }, progress)
      const signal = AbortSignal.any([request.signal, limits.signal])
      return await deps.telemetry.span('deputy.tool_call', { 'deputy.tool': request.tool }, () =>
        run({ request, hosted, facts: factsOf(hosted, request.arguments), signal, onHeld: room.hold }, progress),
      )
    },
  }
}
