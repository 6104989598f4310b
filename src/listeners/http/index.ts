/** What every HTTP listener shares: opening, bodies, forms, answers, and the guard against requests of web pages. */
export { describable, errorAnswer, sendError, sendJson } from './answer.ts'
export { afterBody, readBody, readAnyJson, readForm, readFormBytes, readJson } from './body.ts'
export { createBrowsers } from './browser.ts'
export { createCallerGuard, hostOf, socketHosts, tcpHosts } from './caller-guard.ts'
export { parseBasic, readEvidence } from './client-authentication.ts'
export { Form, parseForm } from './form.ts'
export { type ConnectionHandlers, type Listener, listenOnPort, listenOnSocket } from './listener.ts'
export {
  ASSERTION_ALGORITHMS,
  CLIENT_CREDENTIALS_GRANT,
  discoveryDocument,
  isAuthorizationPath,
  metadataDocument,
  paths,
  publicMetadataDocument,
  TOKEN_EXCHANGE_GRANT,
} from './metadata.ts'
export { assertNotEncoded, assertSingleHeaders, requestTargetOf, withCheckedHead } from './request-head.ts'
export { pageHeaders } from './page-headers.ts'
