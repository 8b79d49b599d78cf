"""FastAPI and uvicorn, as a user would write it first."""
