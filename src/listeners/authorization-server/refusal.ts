import type { KoaContextWithOIDC } from 'oidc-provider'
import { asDeputyError } from '#errors'
import { errorPage } from '#flows/connect'
import { showPage } from './show-page.ts'

/** Answers with an error of the taxonomy, in place of what the answer was: as RFC 6749 section 5.2 has it. */
export const answerRefusal = (context: KoaContextWithOIDC, thrown: unknown): void => {
  const { kind, message, next } = asDeputyError(thrown)
  context.status = kind.status
  context.body = { error: kind.oauth, error_description: `${message} ${next}` }
}

/** The same as a page, where a person is at the browser. */
export const showRefusal = (context: KoaContextWithOIDC, thrown: unknown): void => {
  const { kind, message, next } = asDeputyError(thrown)
  context.status = kind.status
  showPage(context, errorPage(message, next, String(context.state['correlationId'])))
}
