"""An HTTP server that speaks OpenAI's protocol; extra ``serve``. `http` alone needs starlette."""
