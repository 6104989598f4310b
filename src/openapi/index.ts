/**
 * OpenAPI documents as tools: what an operation becomes, how a request is made out of a tool's arguments, and how its
 * answer is read. It is pure: it reads no file, opens no connection, and imports `errors` and `text` only.
 */
export type {
  AnswerForm,
  ApiAnswer,
  ApiRequest,
  ApiTool,
  BodyProperty,
  BodyValue,
  CallLimits,
  Effects,
  JsonSchema,
  Operation,
  Pagination,
  Parameter,
  Place,
  PropertyEncoding,
  RequestBody,
  Style,
  ToolAnswer,
  ToolContent,
  Value,
} from './tool.ts'
export { contentText, parseJson, readAnswer } from './answer.ts'
export { type ApiCompilation, type Candidate, candidates, compileApi, type Target } from './compile.ts'
export {
  type ApiDocument,
  parseDocumentText,
  readAccepted,
  readDocument,
  titleOf,
  upgradeDocument,
  versionOf,
} from './document.ts'
export { MAX_DOCUMENT_BYTES } from './limits.ts'
export type { ApiOptions, ToolEntry } from './options.ts'
export { type ApiProblem, DocumentError } from './problem.ts'
export { joinPages, nextPage } from './pages.ts'
export { project, valueAt } from './projection.ts'
export { OperationError } from './refusal.ts'
export { type Arguments, buildRequest } from './request.ts'
export type { Losses } from './schema-context.ts'
export { validateArguments } from './validate.ts'
export { describeTool, type ToolDescription } from './describe.ts'
export { bundle, type ReadFile } from './bundle.ts'
export { diffTools, type ToolChange, type ToolDifference } from './diff.ts'
export { baseUrlOf } from './servers.ts'
export { type ExampleAnswer, examplesOf, sampleOf } from './sample.ts'
