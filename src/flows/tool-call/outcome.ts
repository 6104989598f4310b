import type { DeputyError } from '#errors'
import type { AuditRecord } from '#foundation/audit'
import { contentText, type ToolAnswer } from '#openapi'
import type { RunningCall } from './context.ts'

/** What is known of a call when it is over. */
export interface Outcome {
  /** Of the last answer; undefined when none came. */
  readonly status?: number
  /** Requests that were sent. */
  readonly requests: number
  /** Of the answers, decoded. */
  readonly bytes: number
  readonly answer?: ToolAnswer
  readonly error?: DeputyError
}

/** The longest answer that a record keeps (characters), where the file of the API asks for answers. */
const MAX_RECORDED = 10_000

/** All of an answer: its structured content may lack parts that differ from the schema. */
const recordedAnswer = ({ hosted: { api } }: RunningCall, { answer }: Outcome): unknown =>
  answer === undefined || !api.record.includes('answers')
    ? undefined
    : contentText(answer.content).slice(0, MAX_RECORDED)

/**
 * The record of a call that is over. That of its credential, which was durable before the first request, has the same
 * correlation id.
 */
export const outcomeRecord = (call: RunningCall, outcome: Outcome, milliseconds: number): AuditRecord => {
  const { request, hosted, facts } = call
  const { tenant, user, agent } = request.who
  const { status, requests, bytes, answer, error } = outcome
  return {
    id: request.origin.correlationId,
    event: 'tool.call',
    outcome: error === undefined && answer?.isError === false ? 'done' : 'failed',
    tenant,
    ...(user === undefined ? {} : { user }),
    server: request.server,
    downstream: hosted.api.downstream,
    detail: {
      tool: request.tool,
      ...(agent === undefined ? {} : { agent }),
      call: facts,
      status,
      requests,
      bytes,
      deviations: answer === undefined || answer.deviations.length === 0 ? undefined : answer.deviations,
      answer: recordedAnswer(call, outcome),
      error: error === undefined ? undefined : { code: error.code, message: error.message, next: error.next },
      milliseconds,
    },
  }
}
